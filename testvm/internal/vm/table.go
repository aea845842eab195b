package vm

import "github.com/sallyport/sallyport/testvm/internal/report"

// table is what is run of each package, by folder: each thing that sallyport
// claims once a kernel, as root where there is no service manager, as an ordinary
// user in a session where there is one; more of the same on one kernel. A package
// that is not in it is run whole.
var table = map[string][]part{
	"internal/audit": {{user: true, on: report.Session,
		only: []string{"TestLogsArePrivate", "TestOnlyAnOpenLogIsLive"}, files: []string{"full_linux_test.go"}}},
	"proxy": {{user: true, on: report.Session,
		only: []string{"TestCaptureByTheKernel", "TestDNSAnswersFromTheAddressThatWasAsked",
			"TestHalfCloseCrossesBothWays", "TestResetCrossesAsReset", "TestUnixSocketIsAnExplicitProxy"}}},
	"sandbox": {
		// Not: arithmetic of the filter, programs whose C library is the same, other
		// users than the machine's.
		{on: report.Plain, not: []string{"TestFilterAgreesWithOracle.*", "TestRefusalsAreOfFewKinds",
			"TestOrdinaryProgramsRunUnderTheFilter", "TestOddPackets.*", "TestLostRecords.*", "Fuzz.*", "Test.*/as=.*"}},
		{user: true, on: report.Session, only: []string{"TestEveryTCPConnection.*", "TestDNSIsAnswered.*", "TestEveryRefusedUDP.*",
			"TestPayload.*", "TestRulesInGo.*", "TestNetworkIsBuilt.*", "TestFilterRefusesForReal", "TestFilterNotifies.*", "TestConnectionIsTraced.*"}},
	},
	"internal/cgroup": {{}},
	"internal/keeper": {{on: report.Plain, only: []string{"TestAKeeperTells.*", "TestAKeeperPlaces.*", "TestWhatAKilledKeeper.*"}}},
	"loader": {{on: report.Plain, only: []string{
		"TestEveryRefusalOfTheCorpus.*", "TestTheProcessBehind.*", "TestACallByAnother.*",
		"TestTheSelfTest.*", "TestAnAttemptThatACgroup.*", "TestADeletedExecutable.*", "TestASetUserID.*",
		"TestWhatComesFromOutside.*", "TestASandboxsOwn.*", "TestLSMPrograms.*", "TestWithoutLSM.*"}}},
	"internal/agent": {{on: report.Plain, only: []string{"TestAnOrdinaryUsersSandbox.*", "TestAnAgentThatEnds.*"}}},
	"internal/e2e": {
		{user: true, on: report.Session, as: ", reached", only: reached},
		{user: true, on: report.Session, as: ", ways around", only: []string{"TestBypass"}}, // all of them: make bypasses
		{user: true, on: report.Plain, as: ", confined", only: confined},
		{user: true, on: report.Session, kernel: "6.12", as: ", more of it", only: more},
		{on: report.Plain, only: kernelTier},
		{on: report.Plain, kernel: "6.12", as: ", more of it", files: []string{"recorder_linux_test.go"}, only: moreKernelTier},
		{user: true, on: report.Session, kernel: "6.12", as: ", limits", only: []string{"TestLimitsHold/the_user's_service_manager"}},
		{on: report.Plain, kernel: "6.12", as: ", limits", only: []string{"TestLimitsHold/the_agent"}},
		{on: report.Plain, as: ", each run in tier trace", env: []string{"SALLYPORT_E2E_TIER=trace"}, only: inTierTrace},
	},
}

// reached is what of the world outside a run reaches, or not: the network, sockets
// and the terminal.
var reached = []string{
	"TestWritesStay.*", "TestDoctorSaysWhatIsMissing/a_good_host",
	"TestNameWithIPv6Outside.*", "TestDualStackSocket.*", "TestTwoSandboxesDoNotSee.*",
	"TestSocketsOfTheSandboxWork", "TestHostSocketsAreOutOfReachAndEachAttemptIsRecorded/by_path",
	"TestListedSocketsAreReached/in_sight", "TestACommandOnATerminal.*",
}

// confined is what a run cannot do to files, processes and the kernel.
var confined = []string{
	"TestWritesStay.*", "TestHiddenPaths.*", "TestAHostFIFO.*", "TestALease.*", "TestAReplacedSecret.*", "TestFilesAsStandardStreams.*",
	"TestHostProcesses.*", "TestKillingTheSupervisorEnds.*",
	"TestSystemCallsThatLeadOut.*", "TestNoCapability.*", "TestRefusedCallsKnow.*", "TestOwnFilters.*",
}

// kernelTier is what root has, and an ordinary user with an agent.
var kernelTier = []string{"TestEveryDenialOfTheCorpus.*", "TestAPolicyCanRequire.*",
	"TestEveryConnectionHas.*", "TestWhoAsksAResolver.*", "TestRootIsNever.*", "TestTheAgentStartsNothing.*",
	"TestTheKernelKeepsAbsent.*", "TestRepositoriesAreMadeWhereTheKernel.*"}

// moreKernelTier is what one kernel shows for all: of the processes, package loader
// shows it everywhere.
var moreKernelTier = []string{"TestTheKernelKnows.*", "TestWithoutItsKeeper.*", "TestWhatAPlanHas.*", "TestNamesAreKept.*"}

// inTierTrace are claims of tier rootless that hold in this one, too.
var inTierTrace = []string{"TestSystemCallsThatLeadOut.*",
	"TestHostSocketsAreOutOfReachAndEachAttemptIsRecorded/by_path"}

// more is what one kernel shows for all.
var more = []string{
	"TestBackgroundProcessesEnd.*", "TestExecHasWhat.*", "TestServerThatSpeaksFirst.*",
	"TestTmpRunAndDev.*", "TestMandatoryDenials.*", "TestAProcessThatOpened.*",
	"TestDoorsAsStandardStreams.*", "TestNoDescriptor.*", "TestTheTerminalIsNotTypedInto",
	"TestTheCallersTerminal.*", "TestALostTerminal.*", "TestCtrlZ.*",
	"TestProcessOne.*", "TestTheCallersKeyring.*", "TestACrashLeavesNoCore",
	"TestRefusedCallsAre.*", "TestListenerIsOut.*", "TestBothSides.*", "TestSocketsAsStandardStreams.*",
	"TestHostSocketsAreOutOfReachAndEachAttemptIsRecorded/through_process_1's_root",
}
