package proxy

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"os/user"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/event"
)

func TestCaptureByTheKernel(t *testing.T) {
	r := newRig(t, allowing("ok.test", "93.184.216.34", "[2606:2800:220:1::1]"), realOrigin)
	real := serveTCP(t, echo)
	r.outside("ok.test", 7000, real)
	r.servers["93.184.216.34:7000"] = real
	r.servers["[2606:2800:220:1::1]:7000"] = real
	n := newNetns(t, r)
	for _, addr := range []string{"ok.test:7000", "93.184.216.34:7000", "[2606:2800:220:1::1]:7000"} {
		if p := n.probe(addr); p.Got != "x" {
			t.Errorf("%s: %+v", addr, p)
		}
	}
	if d := r.denials(); len(d) != 0 {
		t.Fatalf("denials %s", show(d))
	}
	for i, c := range []struct {
		addr   string
		reason event.Reason
	}{
		{"evil.test:7000", event.NotAllowed}, // by DNS
		{"9.9.9.9:7000", event.AddressLiteral},
		{"[2606:2800:220:1::2]:7000", event.AddressLiteral},
		{"198.18.99.99:7000", event.UnknownDest},
		{"192.168.1.1:22", event.AddressDenied},
		{"169.254.169.254:80", event.AddressDenied},
	} {
		if p := n.probe(c.addr); p.Got == "x" {
			t.Errorf("%s was reached", c.addr)
		}
		d := r.denials()
		last := d[len(d)-1]
		if last.Reason != c.reason || len(d) < i+1 {
			t.Errorf("%s: events %s", c.addr, show(d))
		}
		if want := strings.SplitN(strings.TrimPrefix(c.addr, "["), "]", 2)[0]; c.reason == event.AddressLiteral &&
			!strings.HasPrefix(want, last.Object.Addr) {
			t.Errorf("%s: event %+v", c.addr, last)
		}
	}
}

func TestRealClients(t *testing.T) {
	r := newRig(t, allowing("ok.test", "git.test", "ssh.test", "db.test"), realOrigin)
	n := newNetns(t, r)
	ca := newAuthority(t, n.dir)
	hello := http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) { fmt.Fprintf(w, "hello from %s", q.Host) })
	r.outside("ok.test", 443, ca.serve(t, "ok.test", hello))
	r.outside("ok.test", 80, webServer(t, false, hello))

	proxy := fmt.Sprintf("http://%s:%d", netnsV4, netnsPort)
	py := func(url string) string {
		return "import urllib.request as u; print(u.urlopen('" + url + "').read().decode())"
	}
	js := func(url string) string {
		return "fetch('" + url + "').then(r => r.text()).then(console.log, e => { console.error(e); process.exit(1) })"
	}
	pip := "import requests; print(requests.get('https://ok.test/').text)"
	clients := []struct {
		name string
		argv []string // %s becomes the URL
	}{
		{"curl", []string{"curl", "-sS", "%s"}},
		{"curl over HTTP/1.1", []string{"curl", "-sS", "--http1.1", "%s"}},
		{"curl with a proxy", []string{"curl", "-sS", "-x", proxy, "%s"}},
		{"curl with a tunnel", []string{"curl", "-sS", "-p", "-x", proxy, "%s"}},
		{"curl with a proxy over IPv6", []string{"curl", "-sS", "-x", fmt.Sprintf("http://[%s]:%d", netnsV6, netnsPort), "%s"}},
		{"curl with SOCKS5, names there", []string{"curl", "-sS", "-x", fmt.Sprintf("socks5h://%s:%d", netnsV4, netnsPort), "%s"}},
		{"curl with SOCKS5, names here", []string{"curl", "-sS", "-x", fmt.Sprintf("socks5://%s:%d", netnsV4, netnsPort), "%s"}},
		{"wget", []string{"wget", "-qO-", "--ca-certificate=" + ca.file, "%s"}},
		{"wget with a proxy", []string{"wget", "-qO-", "--ca-certificate=" + ca.file, "-e", "use_proxy=yes", "-e", "http_proxy=" + proxy, "-e", "https_proxy=" + proxy, "%s"}},
		{"python", []string{"python3", "-c", py("%s")}},
		{"node", []string{"node", "-e", js("%s")}},
		{"openssl", []string{"sh", "-c", "printf 'GET / HTTP/1.0\\r\\nHost: ok.test\\r\\n\\r\\n' | openssl s_client -quiet -connect ok.test:443 -servername ok.test 2>/dev/null; : %s"}},
		{"python requests", []string{"python3", "-c", pip + "# %s"}},
	}
	env := []string{"CURL_CA_BUNDLE=" + ca.file, "SSL_CERT_FILE=" + ca.file, "NODE_EXTRA_CA_CERTS=" + ca.file, "REQUESTS_CA_BUNDLE=" + ca.file}
	for _, c := range clients {
		for _, url := range []string{"https://ok.test/", "http://ok.test/"} {
			t.Run(c.name+"/"+url, func(t *testing.T) {
				if !installed(c.argv[0], c.name) {
					t.Skipf("%s is not installed", c.name)
				}
				argv := append([]string(nil), c.argv...)
				argv[len(argv)-1] = strings.ReplaceAll(argv[len(argv)-1], "%s", url)
				if out, err := n.run(env, argv...); err != nil || !strings.Contains(out, "hello from ok.test") {
					t.Errorf("%v: %s", err, out)
				}
			})
		}
	}
	t.Run("a refusal is readable", func(t *testing.T) {
		out, _ := n.run(env, "curl", "-sS", "--connect-to", "evil.test:80:9.9.9.9:80", "http://evil.test/")
		if !strings.Contains(out, "fix: ") || !strings.Contains(out, "rule: builtin:") {
			t.Errorf("captured: %s", out)
		}
		out, _ = n.run(env, "curl", "-sS", "-x", proxy, "http://evil.test/")
		if !strings.Contains(out, "fix: ") {
			t.Errorf("through the proxy: %s", out)
		}
	})
	t.Run("git", func(t *testing.T) { testGit(t, n, ca) })
	t.Run("ssh", func(t *testing.T) { testSSH(t, n) })
	t.Run("psql", func(t *testing.T) { testPsql(t, n) })
	t.Run("java", func(t *testing.T) { testJava(t, n, ca) })
}

// installed reports whether a client can be run at all.
func installed(program, name string) bool {
	if _, err := exec.LookPath(program); err != nil {
		return false
	}
	if strings.HasSuffix(name, " requests") {
		return exec.Command(program, "-c", "import requests").Run() == nil
	}
	return true
}

func testGit(t *testing.T, n *netns, ca *authority) {
	root := t.TempDir()
	for _, c := range [][]string{
		{"init", "-q", "work"}, {"-C", "work", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "one"},
		{"clone", "-q", "--bare", "work", "repo.git"},
	} {
		cmd := exec.Command("git", c...)
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v: %s", c, err, out)
		}
	}
	path, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		t.Skip("git is not installed")
	}
	n.r.outside("git.test", 443, ca.serve(t, "git.test", &cgi.Handler{
		Path: strings.TrimSpace(string(path)) + "/git-http-backend",
		Env:  []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1"},
	}))
	for i, args := range [][]string{nil, {"-c", "http.proxy=" + fmt.Sprintf("http://%s:%d", netnsV4, netnsPort)}} {
		argv := append(append([]string{"git"}, args...), "clone", "-q", "https://git.test/repo.git", fmt.Sprint(n.dir, "/clone", i))
		if out, err := n.run([]string{"GIT_SSL_CAINFO=" + ca.file}, argv...); err != nil {
			t.Errorf("%v: %v: %s", argv, err, out)
		}
	}
}

// testSSH reaches an sshd by its name, and is told why where it may not.
func testSSH(t *testing.T, n *netns) {
	const sshd = "/usr/sbin/sshd"
	if _, err := os.Stat(sshd); err != nil {
		t.Skipf("sshd is not installed: %v", err)
	}
	dir := t.TempDir()
	for _, key := range []string{"host", "user"} {
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", dir+"/"+key).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	os.MkdirAll("/run/sshd", 0o755) // as root it wants it
	n.r.outside("ssh.test", 22, serveTCP(t, func(c *net.TCPConn) {
		f, err := c.File()
		if err != nil {
			return
		}
		defer f.Close()
		cmd := exec.Command(sshd, "-i", "-f", "/dev/null", "-h", dir+"/host", "-o", "StrictModes=no", "-o", "UsePAM=no",
			"-o", "PermitRootLogin=yes", "-o", "AuthorizedKeysFile="+dir+"/user.pub")
		cmd.Stdin, cmd.Stdout = f, f
		cmd.Run()
	}))
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	ssh := func(host string) (string, error) {
		return n.run(nil, "ssh", "-F", "/dev/null", "-i", dir+"/user", "-o", "StrictHostKeyChecking=no", "-o", "BatchMode=yes",
			"-o", "UserKnownHostsFile=/dev/null", me.Username+"@"+host, "echo reached")
	}
	if out, err := ssh("ssh.test"); err != nil || !strings.Contains(out, "reached") {
		t.Errorf("ssh.test: %v: %s", err, out)
	}
	if out, _ := ssh("9.9.9.9"); !strings.Contains(out, "sallyport: refused: 9.9.9.9 port 22") || !strings.Contains(out, "rule: builtin:") {
		t.Errorf("9.9.9.9: %s", out)
	}
}

// testPsql: a protocol in which the client asks for TLS first, and a server
// that says what it has to say in its own words.
func testPsql(t *testing.T, n *netns) {
	if _, err := exec.LookPath("psql"); err != nil {
		t.Skipf("psql is not installed: %v", err)
	}
	n.r.outside("db.test", 5432, serveTCP(t, func(c *net.TCPConn) {
		io.ReadFull(c, make([]byte, 8)) // SSLRequest
		io.WriteString(c, "N")
		c.Read(make([]byte, 1024)) // StartupMessage
		const say = "SFATAL\x00C28000\x00Mhello from db\x00\x00"
		c.Write(append([]byte{'E', 0, 0, 0, byte(4 + len(say))}, say...))
	}))
	if out, _ := n.run(nil, "psql", "-h", "db.test", "-U", "me", "-c", "select 1"); !strings.Contains(out, "hello from db") {
		t.Errorf("%s", out)
	}
}

const javaGet = `
import java.net.URI;
import java.net.http.*;
class Get {
	public static void main(String[] a) throws Exception {
		var q = HttpRequest.newBuilder(URI.create(a[0])).build();
		System.out.println(HttpClient.newHttpClient().send(q, HttpResponse.BodyHandlers.ofString()).body());
	}
}
`

// testJava: its client offers h2c with every plain request.
func testJava(t *testing.T, n *netns, ca *authority) {
	for _, tool := range []string{"java", "javac", "keytool"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("no JDK: %v", err)
		}
	}
	os.WriteFile(n.dir+"/Get.java", []byte(javaGet), 0o644)
	store := n.dir + "/trust.p12"
	out, err := exec.Command("keytool", "-importcert", "-noprompt", "-file", ca.file, "-keystore", store,
		"-storetype", "PKCS12", "-storepass", "changeit").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, url := range []string{"https://ok.test/", "http://ok.test/"} {
		out, err := n.run(nil, "java", "-Djavax.net.ssl.trustStore="+store, "-Djavax.net.ssl.trustStorePassword=changeit",
			n.dir+"/Get.java", url)
		if err != nil || !strings.Contains(out, "hello from ok.test") {
			t.Errorf("%s: %v: %s", url, err, out)
		}
	}
}
