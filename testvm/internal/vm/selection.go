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
// program starts thirty times as slowly, so that the rest is left to the host.
// What a package gets in addition is run unless it is written down here.
type scope struct {
	files []string // whose tests are left out
	tests []string // left out: regular expressions, for subtests too
}

// scopes is the table, by folder. A package that is not in it is run whole.
var scopes = map[string]scope{
	"internal/audit": {
		// Bytes that were read, and what is made of them.
		files: []string{"aggregate_test.go", "audit_test.go", "filter_test.go", "follow_test.go", "query_test.go", "read_test.go",
			"render_test.go", "summary_test.go"},
	},
	"proxy": {
		// Protocols, over connections as any server has them.
		files: []string{"attack_test.go", "connect_test.go", "http_test.go", "httpbody_test.go", "httphead_test.go", "inspect_test.go",
			"smuggle_test.go", "token_test.go", "limits_test.go", "load_test.go", "memory_test.go", "registries_linux_test.go", "clients_linux_test.go"},
		tests: []string{"TestBulkArrivesWhole"},
	},
	"sandbox": {
		// Arithmetic of the filter, programs whose C library is the same, and other
		// users than the machine's.
		tests: []string{"TestFilterAgreesWithOracle.*", "TestRefusalsAreOfFewKinds", "TestOrdinaryProgramsRunUnderTheFilter", "Fuzz.*",
			"Test.*/as=.*"},
	},
	"internal/e2e": {
		// What programs do, what the policy decides, what is printed, who may join.
		files: []string{"clients_linux_test.go", "clients_ssh_linux_test.go", "network_names_linux_test.go", "network_summary_linux_test.go",
			"terminal_programs_linux_test.go", "unix_clients_linux_test.go"},
		tests: []string{
			"TestABadHost.*", "TestAMissingDirectory.*", "TestABadPolicy.*", "TestUsageErrors.*", "TestExitStatuses",
			"TestDoctorSaysWhatIsMissing/(bubblewrap|no)_.*", "TestABadUserIsRefused", "TestABinaryInRootsOwn.*", "TestRootBecomes.*",
			"TestPort25.*", "TestOtherPorts.*", "TestKeepAlive.*", "TestEveryRequest.*", "TestConnectLeads.*", "TestAddressLiterals.*",
			"TestIPv6OnlyClient.*", "TestServerOnLocalhost.*", "TestLookUpsOfAllowed.*", "TestHostsUnixSockets.*",
			"TestWhatGitTrusts.*", "TestGitOnTheHost.*", "TestTwoRunsShare.*", "TestAUsersOwnDenial.*", "TestAPlaceholderThat.*",
			"TestTheFirstRun.*", "TestOnlyTheEnvironment.*", "TestTheSummary.*", "TestSummaryDoesNot.*",
			"TestAClosedStandardInput.*", "TestStandardOutput.*", "TestListedNames.*", "TestAllSockets.*",
			// More of the same: the rest of the table shows what the kernel does.
			"TestUDPIsRefused/(QUIC|time|to_an_allowed_name|multicast_DNS.*|DNS_to_a_group)",
			"TestLookUpsOfDeniedNamesAreRefusedByEveryServer/(tcp_[^2]|udp_[^8]).*",
			"TestHostSocketsAreOutOfReachAndEachAttemptIsRecorded/(in|relative|renamed|under|through_(a|the)).*",
			"TestListedSocketsAreReached/where_it_may_write", "TestSocketsBehind.*", "TestTwoSandboxesHave.*", "TestSocketsOfAnother.*",
			// Many starts, or long ones.
			"TestACrashAtAnyMoment.*", "TestPlaceholdersOfACrashedRun.*", "TestAKilledBubblewrap.*", "TestSignalsReach.*",
			"TestKillingTheSupervisorWhileItStarts.*", "TestKillingEverything.*", "TestManyShortRuns.*", "TestFlood.*", "TestRaceFor.*",
			"TestConnectWaits.*", "TestCallersOfEveryKind.*", "TestRunningSandboxes.*", "TestARunIsListed.*", "TestStopEnds.*",
			"TestExecPasses.*", "TestExecOnATerminal.*", "TestExecsAtOnce.*", "TestJobControl.*", "TestAStopped.*", "TestARunIn.*",
			"TestTheTerminals.*", "TestTheTerminalIsRestored.*", "TestKeysThatSignal.*", "TestNothingGoesOn.*",
		},
	},
}

// flags select the tests of a package of the module, whose folder is dir.
func (sel Selection) flags(rel, dir string) ([]string, error) {
	s, ok := scopes[rel]
	if sel.All || !ok {
		return nil, nil
	}
	skip := append([]string(nil), s.tests...)
	for _, name := range s.files {
		tests, err := testsIn(filepath.Join(dir, name))
		if err != nil {
			return nil, fmt.Errorf("leave out tests of %s: %w", rel, err)
		}
		skip = append(skip, tests...)
	}
	return []string{"-test.skip=" + pattern(skip)}, nil
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
