package matrix

import (
	"slices"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/bypass"
	"github.com/sallyport/sallyport/testvm/internal/report"
)

const bypassOutput = "\x16=== RUN   TestBypass\n" +
	"\x16=== RUN   TestBypass/x32\n    bypass_linux_test.go:7: bypass: rootless: recorded\n\x16--- PASS: TestBypass/x32 (0.00s)\n" +
	"\x16=== RUN   TestBypass/sctp\n    bypass_linux_test.go:7: bypass: rootless: cannot be tried here: without a sandbox it ends with EAFNOSUPPORT\n\x16--- SKIP: TestBypass/sctp (0.00s)\n" +
	"\x16=== RUN   TestBypass/tipc\n    bypass_linux_test.go:7: bypass: rootless: cannot be tried here: without a sandbox it ends with EAFNOSUPPORT\n\x16--- SKIP: TestBypass/tipc (0.00s)\n" +
	"\x16=== RUN   TestBypass/ptrace\n    bypass_linux_test.go:6: not refused as it should be: ok\n    bypass_linux_test.go:7: bypass: rootless: recorded\n\x16--- FAIL: TestBypass/ptrace (0.00s)\n" +
	"\x16=== RUN   TestBypass/prompts\n    bypass_linux_test.go:7: bypass: rootless: held by proxy.TestX\n\x16--- PASS: TestBypass/prompts (0.00s)\n" +
	"\x16--- FAIL: TestBypass (0.00s)\n\x16=== RUN   TestBypassAsRoot\n\x16=== RUN   TestBypassAsRoot/x32\n    bypass_linux_test.go:7: bypass: lsm: recorded\n"

func TestWhatCameOfVectorsIsReadFromTests(t *testing.T) {
	got := BypassesOf(report.ParseTests([]byte(bypassOutput)))
	const cannot = bypass.CannotTry + "without a sandbox it ends with EAFNOSUPPORT"
	want := []Bypass{{"x32", "TestBypass", "rootless", "recorded"}, {"sctp", "TestBypass", "rootless", cannot}, {"tipc", "TestBypass", "rootless", cannot},
		{"ptrace", "TestBypass", "rootless", "**failed**"}, {"prompts", "TestBypass", "rootless", "held by proxy.TestX"},
		{"x32", "TestBypassAsRoot", "lsm", "**unfinished**"}}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%q\nwant\n%q", got, want)
	}
}

func TestTheDocumentOfBypassesSaysWhatCameOfThem(t *testing.T) {
	rows := []Row{{Kernel: "5.10", Bypasses: BypassesOf(report.ParseTests([]byte(bypassOutput)))}, {Kernel: "6.1", NotRun: true}}
	text := string(BypassDocument(rows))
	for _, want := range []string{"| vector |  | 5.10 rootless |\n", "| x32 | calls of the x32 table | recorded |\n", "| sctp | SCTP | 1 |\n", "| tipc | TIPC | 1 |\n",
		"| ptrace | ptrace | **failed** |\n", "| prompts | a flood of questions | held |\n", "| i386 | calls of the i386 table |  |\n",
		"\n## Started by root, for an ordinary user\n", "| x32 | calls of the x32 table | **unfinished** |\n", "\n1. without a sandbox it ends with EAFNOSUPPORT\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("the document has no %q", want)
		}
	}
	if strings.Contains(text, "6.1") || strings.Contains(text, "has an agent\n\n###") || strings.Contains(text, "\n2. ") {
		t.Error("the document tells of what was not run")
	}
	if again := string(BypassDocument(rows)); again != text {
		t.Error("written twice, it differs")
	}
}
