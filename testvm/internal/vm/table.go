package vm

import "github.com/sallyport/sallyport/testvm/internal/report"

// table is what is run of each package, by folder: each thing that sallyport
// claims once a machine. A package that is not in it is run whole. As root where
// there is no service manager, as an ordinary user in a session where there is.
var table = map[string][]part{
	"internal/audit": {{user: true, on: report.Session,
		only: []string{"TestLogsArePrivate", "TestOnlyAnOpenLogIsLive"}, files: []string{"full_linux_test.go"}}},
	"proxy": {{user: true, on: report.Session,
		only: []string{"TestCaptureByTheKernel", "TestDNSAnswersFromTheAddressThatWasAsked",
			"TestHalfCloseCrossesBothWays", "TestResetCrossesAsReset", "TestUnixSocketIsAnExplicitProxy"}}},
	// Not: arithmetic of the filter, programs whose C library is the same, other
	// users than the machine's.
	"sandbox": {
		{on: report.Plain, not: notInSandbox},
		{user: true, on: report.Session, not: notInSandbox},
	},
	"internal/cgroup": {{}},
	"internal/keeper": {{on: report.Plain}},
	"loader": {{on: report.Plain, only: []string{
		"TestEveryRefusalOfTheCorpus.*", "TestTheProcessBehind.*", "TestACallByAnother.*",
		"TestTheSelfTest.*", "TestWhatIsPinnedOutlives.*", "TestAnAttemptThatACgroup.*", "TestADeletedExecutable.*", "TestASetUserID.*"}}},
	"internal/agent": {{on: report.Plain, only: []string{
		"TestAnOrdinaryUsersSandbox.*", "TestAnAgentThatEnds.*", "TestAnAgentKeepsOnly.*"}}},
	"internal/e2e": {
		{user: true, on: report.Session, only: runs},
		{user: true, on: report.Plain, as: ", the main things", only: mainThings},
		{on: report.Plain, files: []string{"lsm_*_test.go"}, only: kernelTier},
		{on: report.Plain, as: ", each run in tier trace", env: []string{"SALLYPORT_E2E_TIER=trace"}, only: inTierTrace},
	},
}

var notInSandbox = []string{"TestFilterAgreesWithOracle.*", "TestRefusalsAreOfFewKinds", "TestOrdinaryProgramsRunUnderTheFilter", "Fuzz.*",
	"Test.*/as=.*"}

// mainThings are what a run is for: what may be done is, and the rest is refused
// and recorded.
var mainThings = []string{"TestWritesStay.*", "TestHiddenPaths.*", "TestSystemCallsThatLeadOut.*", "TestRefusedCallsAre.*",
	"TestLookUpsOfAllowedNames.*", "TestICMPIsRefused", "TestKillingTheSupervisorEnds.*"}

// kernelTier is what root has, and an ordinary user with an agent.
var kernelTier = []string{"TestEveryDenialOfTheCorpus.*", "TestTheKernelKnows.*", "TestAPolicyCanRequire.*", "TestWithoutItsKeeper.*",
	"TestEveryConnectionHas.*", "TestWhoAsksAResolver.*", "TestAnOrdinaryUserWithAnAgent.*", "TestARunOutlivesItsAgent",
	"TestRootIsNever.*", "TestRootByName.*", "TestASetUserID.*"}

// inTierTrace are tests of other tiers' claims that hold in this one, too.
var inTierTrace = []string{"TestWritesStay.*", "TestHiddenPaths.*", "TestSystemCallsThatLeadOut.*", "TestSocketsOfTheSandboxWork",
	"TestICMPIsRefused", "TestHostSocketsAreOutOfReachAndEachAttemptIsRecorded/by_path"}

// runs are the claims of tier rootless.
var runs = []string{
	"TestDoctorSaysWhatIsMissing/a_good_host", "TestBackgroundProcessesEnd.*", "TestKillingTheSupervisorEnds.*", "TestExecHasWhat.*",
	// The network.
	"TestServerThatSpeaksFirst.*", "TestNameWithIPv6Outside.*", "TestDualStackSocket.*", "TestTwoSandboxesDoNotSee.*",
	"TestUDPIsRefused/(v6|any_port.*)", "TestICMPIsRefused",
	"TestLookUpsOfDeniedNamesAreRefusedByEveryServer/(udp_8.8.8.8|tcp_2001.*)",
	// Files and streams.
	"TestHiddenPaths.*", "TestWritesStay.*", "TestTmpRunAndDev.*", "TestAHostFIFO.*", "TestALease.*", "TestMandatoryDenials.*",
	"TestAReplacedSecret.*", "TestAProcessThatOpened.*",
	"TestFilesAsStandardStreams.*", "TestDoorsAsStandardStreams.*", "TestNoDescriptor.*", "TestTheTerminalIsNotTypedInto",
	"TestACommandOnATerminal.*", "TestTheCallersTerminal.*", "TestALostTerminal.*", "TestCtrlZ.*",
	// Processes and system calls.
	"TestProcessOne.*", "TestHostProcesses.*", "TestSystemCallsThatLeadOut.*", "TestTheCallersKeyring.*", "TestACrashLeavesNoCore",
	"TestNoCapability.*",
	"TestRefusedCallsAre.*", "TestRefusedCallsKnow.*", "TestOwnFilters.*", "TestListenerIsOut.*",
	// Unix sockets.
	"TestSocketsOfTheSandboxWork", "TestHostSocketsAreOutOfReachAndEachAttemptIsRecorded/(by_path|through_process_1's_root)",
	"TestListedSocketsAreReached/in_sight", "TestBothSides.*", "TestSocketsAsStandardStreams.*",
}
