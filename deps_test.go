package sallyport

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/sallyport/sallyport"

// kernelPackages touch the running system.
var kernelPackages = []string{
	"github.com/cilium/ebpf", "github.com/vishvananda/netlink", "github.com/google/nftables",
	"github.com/mdlayher/netlink", "github.com/landlock-lsm/go-landlock", "golang.org/x/sys",
}

const (
	prometheus = "github.com/prometheus"
	otel       = "go.opentelemetry.io"
)

// layers says which packages of the module a package may import, and why no
// others. What is not listed may import nothing of the module.
var layers = map[string]struct {
	may    []string
	never  []string // packages outside the module
	reason string
}{
	"internal/event":   {nil, append([]string{prometheus, "golang.org/x", "github.com"}, kernelPackages...), "every layer fills events: the schema depends on nothing"},
	"internal/policy":  {[]string{"internal/event"}, append([]string{prometheus, "os", "net"}, kernelPackages...), "a policy is a pure function of its files"},
	"internal/ceiling": {[]string{"internal/policy"}, []string{prometheus, "github.com"}, "the administrator's policies are read alike by every program that heeds them"},
	"internal/plan":    {[]string{"internal/event", "internal/policy", "internal/plan/inside"}, append([]string{prometheus, "os", "net"}, kernelPackages...), "a plan is computed, never performed"},
	// golang.org/x/sys: flock(2) and the boot clock, on every Unix.
	"internal/audit":       {[]string{"internal/event"}, []string{prometheus, "github.com/cilium/ebpf", "github.com/vishvananda/netlink", "github.com/google/nftables", "github.com/mdlayher/netlink"}, "the record must be readable on any machine"},
	"internal/registry":    {nil, []string{prometheus, "github.com"}, "who asks for the list needs nothing that a run needs"},
	"internal/plan/inside": {nil, []string{prometheus, "github.com", "golang.org"}, "names that stage 2 shares with who plans for it: stage 2 depends on little"},
	"sandbox/stage2":       {[]string{"internal/plan/inside"}, []string{prometheus, "github.com/cilium/ebpf", "github.com/google", "github.com/vishvananda", "github.com/mdlayher", "net", "net/netip"}, "process 1 of a sandbox begins before the rest of the program is initialised"},
	"sandbox":              {[]string{"internal/event", "internal/policy", "internal/plan", "sandbox/stage2"}, []string{prometheus, "github.com/cilium/ebpf"}, "the sandbox performs a plan; it neither proxies nor records"},
	"seatbelt":             {[]string{"internal/event", "internal/policy", "internal/plan"}, []string{prometheus, "github.com/cilium/ebpf", "github.com/google/nftables", "github.com/vishvananda/netlink", "github.com/landlock-lsm/go-landlock"}, "the macOS boundary is tested on every system; it neither proxies nor stores"},
	"proxy":                {[]string{"internal/event", "internal/policy"}, []string{prometheus, "github.com/cilium/ebpf", "github.com/google/nftables", "github.com/vishvananda/netlink"}, "hostile bytes are parsed far from what builds the boundary"},
	"":                     {[]string{"internal/event", "internal/policy", "internal/plan", "internal/audit", "internal/agent", "internal/export", "internal/keeper", "internal/registry", "internal/ceiling", "internal/cgroup", "internal/desktop", "internal/scope", "sandbox", "seatbelt", "proxy", "proxy/ask", "loader"}, []string{prometheus, otel}, "the root wires everything; what it pulls in is initialised in every run"},
	"cmd/sallyport":        {[]string{"", "internal/event", "internal/policy", "internal/plan", "internal/audit", "internal/agent", "internal/export", "internal/manual", "sandbox", "seatbelt", "proxy/ask"}, []string{prometheus, otel}, "the command line shows, it does not do"},
	"cmd/sallyport-agent":  {[]string{"", "internal/agent", "internal/event", "internal/export", "internal/manual", "internal/otlp", "internal/outlets", "metrics"}, nil, "what no sandbox needs"},
	"bpf":                  {nil, []string{prometheus}, "the kernel's programs hold no logic in Go"},
	"internal/desktop":     {[]string{"internal/event", "internal/policy", "proxy/ask"}, []string{prometheus}, "what speaks D-Bus decides nothing"},
	"internal/cgroup":      {nil, []string{prometheus, "github.com/cilium/ebpf"}, "cgroups are files"},
	"internal/scope":       {nil, []string{prometheus, "github.com/cilium/ebpf", "github.com/google/nftables", "github.com/vishvananda/netlink"}, "a service manager is asked, and told nothing of sandboxes"},
	"internal/process":     {[]string{"internal/cgroup"}, []string{prometheus, "github.com"}, "who decides whom root moves needs nothing that a sandbox needs"},
	"internal/keeper":      {[]string{"internal/cgroup", "internal/event", "internal/process", "loader"}, []string{prometheus, "github.com/cilium/ebpf", "github.com/google/nftables", "github.com/vishvananda/netlink"}, "root's side of a run knows no policy and parses nothing of the sandbox's"},
	"loader":               {[]string{"bpf", "internal/cgroup", "internal/event", "internal/policy", "internal/plan"}, []string{prometheus, "github.com/google/nftables", "github.com/vishvananda/netlink"}, "the kernel side neither proxies nor builds sandboxes"},
	"internal/agent":       {[]string{"internal/event", "internal/policy", "internal/plan", "internal/audit", "internal/ceiling", "internal/cgroup", "internal/process", "loader"}, []string{prometheus, "github.com/cilium/ebpf", "github.com/google/nftables", "github.com/vishvananda/netlink"}, "what runs as root for all meets no sandbox's traffic"},
	"internal/export":      {[]string{"internal/event", "internal/audit"}, []string{prometheus, "github.com/cilium/ebpf", "github.com/google/nftables", "github.com/vishvananda/netlink"}, "what is sent elsewhere is read from the logs like by any reader"},
	"internal/otlp":        {[]string{"internal/event", "internal/export"}, []string{prometheus, "github.com/cilium/ebpf", "github.com/google/nftables", "github.com/vishvananda/netlink"}, "one of the ways out; apart, because it is heavy"},
	"internal/outlets":     {[]string{"internal/event", "internal/audit", "internal/export", "internal/otlp", "metrics"}, []string{"github.com/cilium/ebpf", "github.com/google/nftables", "github.com/vishvananda/netlink"}, "what carries a run's record on knows nothing of the run"},
	"internal/manual":      {nil, []string{prometheus}, "pages are made from commands alone"},
	"metrics":              {[]string{"internal/event"}, []string{"github.com/cilium/ebpf", "github.com/google/nftables", "github.com/vishvananda/netlink"}, "whoever counts brings the figures: what speaks to Prometheus reads nothing by itself"},
	"internal/fakemac":     {nil, nil, "only tests import fakemac"},
	"internal/bypass":      {[]string{"internal/event"}, []string{prometheus, "github.com", "golang.org/x"}, "a table is data"},
	"testvm":               {[]string{"internal/bypass"}, nil, "only tests import testvm; it writes a document of the table of bypasses"},
}

func TestImportsPointOneWay(t *testing.T) {
	for file, imports := range moduleImports(t) {
		pkg := packageOf(file)
		layer, ok := layers[pkg]
		for _, imp := range imports {
			if inner, isOurs := strings.CutPrefix(imp+"/", module+"/"); isOurs {
				inner = strings.TrimSuffix(inner, "/")
				if !contains(layer.may, inner) && packageOf(inner+"/x.go") != pkg {
					t.Errorf("%s imports %s: %s", file, imp, reasonOf(ok, layer.reason))
				}
				continue
			}
			for _, never := range layer.never {
				if imp == never || strings.HasPrefix(imp, never+"/") && strings.Contains(never, ".") {
					t.Errorf("%s imports %s: %s", file, imp, layer.reason)
				}
			}
		}
	}
}

func reasonOf(listed bool, reason string) string {
	if !listed {
		return "the package has no place in deps_test.go yet"
	}
	return reason
}

// packageOf maps a file to its package's directory in the module; packages
// below one that is listed follow its rules.
func packageOf(file string) string {
	dir := filepath.ToSlash(filepath.Dir(file))
	for ; dir != "." && dir != "/"; dir = path.Dir(dir) {
		if _, ok := layers[dir]; ok {
			return dir
		}
	}
	return ""
}

// moduleImports parses the imports of every file that is not a test, for every
// system.
func moduleImports(t *testing.T) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && p != "." || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(p, ".go") || strings.HasSuffix(p, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), p, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, i := range f.Imports {
			name, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			out[p] = append(out[p], name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) == 0 {
		t.Fatal("no files found")
	}
	return out
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}

// TestStage2DependsOnLittle: it begins when what it depends on is initialised, and
// so do the packages whose names come before these.
func TestStage2DependsOnLittle(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "./sandbox/stage2").Output()
	if err != nil {
		t.Fatal(err)
	}
	light := []string{module + "/internal/plan/inside", module + "/sandbox/stage2", "golang.org/x/sys/unix",
		"github.com/landlock-lsm/go-landlock/landlock/syscall", "kernel.org/pub/linux/libs/security/libcap/psx"}
	for pkg := range strings.Lines(string(out)) {
		pkg = strings.TrimSpace(pkg)
		first, _, _ := strings.Cut(pkg, "/")
		if strings.Contains(first, ".") && !contains(light, pkg) || pkg == "net" || pkg == "net/netip" {
			t.Errorf("stage 2 is made of %s", pkg)
		}
	}
}

// TestWhatIsInEverySandboxIsLight: the program pays for the initialisation of all
// that it is made of, in every run.
func TestWhatIsInEverySandboxIsLight(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "./cmd/sallyport").Output()
	if err != nil {
		t.Fatal(err)
	}
	for pkg := range strings.Lines(string(out)) {
		for _, heavy := range []string{prometheus, otel, "google.golang.org/"} {
			if strings.HasPrefix(pkg, heavy) {
				t.Errorf("sallyport is made of %s", pkg)
			}
		}
	}
}
