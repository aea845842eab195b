package vm

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"time"
)

// Selection says which tests are run, and for how long.
type Selection struct {
	Packages []string      // patterns
	Deadline time.Duration // of one package
	Short    bool          // -test.short
	All      bool          // those too that a kernel has no say in, and as both users everywhere
}

// scope is the part of a package's tests that a kernel can break. Without KVM a
// program starts thirty times as slowly, so that the rest is left to the host:
// protocols, decisions, programs, wording, and more of the same.
type scope struct {
	only  []string // regular expressions, for subtests too; with files: nothing else is run
	files []string // patterns: all tests of these files
	not   []string // regular expressions; left out
	root  bool     // it takes root: everywhere, since cgroups differ with a service manager
}

// scopes is the table, by folder. A package that is not in it is run whole.
var scopes = map[string]scope{
	"internal/audit": {only: []string{"TestLogsArePrivate", "TestOnlyAnOpenLogIsLive"}, files: []string{"full_linux_test.go"}},
	"proxy": {only: []string{"TestCaptureByTheKernel", "TestDNSAnswersFromTheAddressThatWasAsked",
		"TestHalfCloseCrossesBothWays", "TestResetCrossesAsReset", "TestUnixSocketIsAnExplicitProxy"}},
	// Arithmetic of the filter, programs whose C library is the same, and other
	// users than the machine's.
	"sandbox": {not: []string{"TestFilterAgreesWithOracle.*", "TestRefusalsAreOfFewKinds", "TestOrdinaryProgramsRunUnderTheFilter", "Fuzz.*",
		"Test.*/as=.*"}},
	// Floods and leaks, by the hundred thousand.
	"loader": {root: true, not: []string{"TestNoRefusalOfAFlood.*", "TestAFullRingBuffer.*", "TestProcessesWhoseEndWasLost.*",
		"TestTwoHundredSandboxes.*", "TestLoadingLeaks.*", "Fuzz.*"}},
	"internal/e2e": {
		// The kernel tier's, where there are some.
		files: []string{"trace_*_test.go", "agent_*_test.go", "lsm_*_test.go"},
		not:   []string{"TestAFloodFills.*", "TestManyRunsAtOnce.*"},
		only: []string{
			"TestDoctorSaysWhatIsMissing/a_good_host", "TestLimitsHold.*", "TestOnlyTheNamedPort.*", "TestBackgroundProcessesEnd.*", "TestKillingTheSupervisorEnds.*", "TestExecHasWhat.*",
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
			"TestNoCapability.*", "TestRootIsNever.*", "TestRootByName.*", "TestASetUserID.*",
			"TestRefusedCallsAre.*", "TestRefusedCallsKnow.*", "TestOwnFilters.*", "TestListenerIsOut.*",
			// Unix sockets.
			"TestSocketsOfTheSandboxWork", "TestHostSocketsAreOutOfReachAndEachAttemptIsRecorded/(by_path|through_process_1's_root)",
			"TestListedSocketsAreReached/in_sight", "TestBothSides.*", "TestSocketsAsStandardStreams.*",
		},
	},
}

// flags select the tests of a package of the module, whose folder is dir.
func (sel Selection) flags(rel, dir string) ([]string, error) {
	s, ok := scopes[rel]
	if sel.All || !ok {
		return nil, nil
	}
	only := append([]string(nil), s.only...)
	for _, name := range s.files {
		files, err := filepath.Glob(filepath.Join(dir, name))
		if err != nil {
			return nil, fmt.Errorf("list files of %s: %w", rel, err)
		}
		for _, path := range files {
			tests, err := testsIn(path)
			if err != nil {
				return nil, fmt.Errorf("list tests of %s: %w", rel, err)
			}
			only = append(only, tests...)
		}
	}
	var flags []string
	if len(only) > 0 {
		flags = append(flags, "-test.run="+pattern(only))
	}
	if len(s.not) > 0 {
		flags = append(flags, "-test.skip="+pattern(s.not))
	}
	return flags, nil
}

// testsIn lists the tests and fuzz targets of a file.
func testsIn(path string) ([]string, error) {
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, d := range file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if ok && f.Recv == nil && f.Name.Name != "TestMain" && (strings.HasPrefix(f.Name.Name, "Test") || strings.HasPrefix(f.Name.Name, "Fuzz")) {
			names = append(names, f.Name.Name)
		}
	}
	return names, nil
}

// pattern matches whole names: alternatives stand outermost, and each part of a
// name between slashes is an expression of its own (go help testflag).
func pattern(names []string) string {
	each := make([]string, len(names))
	for i, name := range names {
		each[i] = "^" + strings.ReplaceAll(name, "/", "$/^") + "$"
	}
	return strings.Join(each, "|")
}
