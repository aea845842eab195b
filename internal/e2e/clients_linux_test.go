package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/event"
)

// client is a program that fetches a URL and prints the body.
type client struct {
	name  string
	needs string
	argv  []string // "URL" stands for it, "CA" for the certificate authority
	// direct: it connects by itself, where others ask the proxy of their
	// environment.
	direct bool
	slow   bool // to make
}

const (
	pythonProxied = `import sys,urllib.request as u; sys.stdout.write(u.urlopen(sys.argv[1]).read().decode())`
	pythonDirect  = `import sys,urllib.request as u; o=u.build_opener(u.ProxyHandler({})); sys.stdout.write(o.open(sys.argv[1]).read().decode())`
	nodeFetch     = `fetch(process.argv[1]).then(async r => { process.stdout.write(await r.text()); process.exitCode = r.ok ? 0 : 1 }, e => { console.error(e.cause ?? e); process.exitCode = 1 })`
	// JDKs have their own trust store, and want to be told.
	javaFetch = `import java.net.URI; import java.net.http.*; import java.nio.file.*; import java.security.*; import java.security.cert.*; import javax.net.ssl.*;
public class Fetch { public static void main(String[] a) throws Exception {
  KeyStore k = KeyStore.getInstance(KeyStore.getDefaultType()); k.load(null, null);
  try (var in = Files.newInputStream(Path.of(a[1]))) { k.setCertificateEntry("ca", CertificateFactory.getInstance("X.509").generateCertificate(in)); }
  TrustManagerFactory f = TrustManagerFactory.getInstance("PKIX"); f.init(k);
  SSLContext c = SSLContext.getInstance("TLS"); c.init(null, f.getTrustManagers(), null);
  var r = HttpClient.newBuilder().sslContext(c).version(HttpClient.Version.HTTP_1_1).build().send(HttpRequest.newBuilder(URI.create(a[0])).build(), HttpResponse.BodyHandlers.ofString());
  System.out.print(r.body()); System.exit(r.statusCode() == 200 ? 0 : 1);
} }`
)

var clients = []client{
	{name: "curl", needs: "curl", argv: []string{"curl", "-sS", "--fail", "URL"}},
	{name: "curl without proxy", needs: "curl", argv: []string{"curl", "-sS", "--fail", "--noproxy", "*", "URL"}, direct: true},
	{name: "wget", needs: "wget", argv: []string{"wget", "-nv", "--ca-certificate", "CA", "-O-", "URL"}},
	{name: "wget without proxy", needs: "wget", argv: []string{"wget", "-nv", "--no-proxy", "--ca-certificate", "CA", "-O-", "URL"}, direct: true},
	{name: "python", needs: "/usr/bin/python3", argv: []string{"/usr/bin/python3", "-c", pythonProxied, "URL"}},
	{name: "python without proxy", needs: "/usr/bin/python3", argv: []string{"/usr/bin/python3", "-c", pythonDirect, "URL"}, direct: true},
	{name: "go", argv: []string{"HELPER", "get", "URL"}},
	{name: "go without proxy", argv: []string{"HELPER", "get", "URL", "direct"}, direct: true},
	{name: "java", needs: "javac", argv: []string{"java", "-XX:TieredStopAtLevel=1", "-cp", "CLASSES", "Fetch", "URL", "CA"}, direct: true},
	{name: "reqwest", argv: []string{"REQWEST", "URL", "CA"}, slow: true},
	{name: "reqwest without proxy", argv: []string{"REQWEST", "URL", "CA", "direct"}, direct: true, slow: true},
}

// fetch runs a client in a sandbox.
func (h *home) fetch(c client, url string) *result {
	h.t.Helper()
	argv := append([]string(nil), c.argv...)
	for i, a := range argv {
		switch a {
		case "URL":
			argv[i] = url
		case "CA":
			argv[i] = internet.ca
		case "CLASSES":
			argv[i] = javaClasses(h.t)
		case "REQWEST":
			argv[i] = reqwest(h.t)
		}
	}
	if argv[0] == "HELPER" {
		return h.helperWith(caFlags, "try", argv[1:]...)
	}
	return h.runWith(caFlags, argv...)
}

// javaClasses compiles once for all tests.
func javaClasses(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(base, "java")
	if err := os.Mkdir(dir, 0o755); os.IsExist(err) {
		return dir
	}
	source := filepath.Join(dir, "Fetch.java")
	if err := os.WriteFile(source, []byte(javaFetch), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("javac", "-proc:none", "-d", dir, source).CombinedOutput(); err != nil {
		t.Fatalf("javac: %v: %s", err, out)
	}
	return dir
}

func TestClientsReachAllowedNamesAndNothingElse(t *testing.T) {
	for _, c := range clients {
		t.Run(c.name, func(t *testing.T) {
			if c.slow && os.Getenv("SALLYPORT_CLIENTS") == "" {
				t.Skip("it takes its time: 'make test-clients' runs it")
			}
			if c.needs != "" {
				need(t, c.needs)
			}
			for _, scheme := range []string{"http", "https"} {
				if c.name == "java" && scheme == "http" {
					continue // a virtual machine takes a second to start
				}
				h := newHome(t).allow("allowed.test")
				h.fetch(c, scheme+"://allowed.test/x").ok().says("hello from allowed.test/x").allowed("allowed.test", port[scheme])
				onlyArrived(t, "dns allowed.test", fmt.Sprintf("tcp %s:%d", thereV4, port[scheme]))

				h = newHome(t).allow("allowed.test")
				want := denial{op: event.NetConnect, host: "denied.test", port: port[scheme], rule: "builtin:default-deny"}
				if c.direct {
					want.op, want.port = event.NetDNS, 0
				}
				h.fetch(c, scheme+"://denied.test/").refused().once(want)
				silent(t)
			}
		})
	}
}

var port = map[string]uint16{"http": 80, "https": 443}

// Newer versions of Node use the proxy of their environment, older ones
// connect by themselves.
func TestNodeFetchReachesAllowedNamesAndNothingElse(t *testing.T) {
	need(t, "node")
	for name, argv := range map[string][]string{
		"with proxy variables": {"node", "-e", nodeFetch},
		"without":              {"env", "-u", "NODE_USE_ENV_PROXY", "node", "-e", nodeFetch},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHome(t).allow("allowed.test")
			h.runWith(caFlags, append(argv, "https://allowed.test/x")...).ok().says("hello from allowed.test/x").allowed("allowed.test", 443)
			h = newHome(t).allow("allowed.test")
			r := h.runWith(caFlags, append(argv, "https://denied.test/x")...).refused()
			want := denial{op: event.NetDNS, host: "denied.test", rule: "builtin:default-deny"}
			if events, _ := r.denied(); len(events) > 0 && events[0].Operation == event.NetConnect {
				want.op = event.NetConnect
			}
			r.once(want)
			silent(t)
		})
	}
}

func TestGitClonesFromAllowedNamesAndNothingElse(t *testing.T) {
	need(t, "git")
	const clone = `git clone -q "https://$1/git/r.git" "$2" && cat "$2/file"`
	for name, prefix := range map[string][]string{
		"with proxy variables": {"sh", "-c", clone, "sh"},
		"without":              {"env", "-u", "https_proxy", "-u", "HTTPS_PROXY", "sh", "-c", clone, "sh"},
	} {
		for _, dir := range []string{"clone", "/tmp/clone"} {
			t.Run(name+" into "+dir, func(t *testing.T) {
				h := newHome(t).allow("git.test")
				h.runWith(caFlags, append(prefix, "git.test", dir)...).ok().says("hello").allowed("git.test", 443)
				if in := h.read("work/clone/file"); !strings.HasPrefix(dir, "/") && in != "hello\n" {
					t.Errorf("the working directory has %q", in)
				}
				onlyArrived(t, "dns git.test", "tcp "+thereV4+":443")
			})
		}
		t.Run(name+" denied", func(t *testing.T) {
			h := newHome(t).allow("git.test")
			r := h.runWith(caFlags, append(prefix, "denied.test", "clone")...).refused()
			want := denial{op: event.NetConnect, host: "denied.test", port: 443, rule: "builtin:default-deny"}
			if name == "without" {
				want.op, want.port = event.NetDNS, 0
			}
			r.once(want)
			silent(t)
		})
	}
}
