package e2e

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// listenThere listens on the far side, on a port of its own.
func listenThere(t *testing.T) (l net.Listener, port uint16) {
	t.Helper()
	err := internet.there(func() (err error) {
		l, err = net.Listen("tcp", thereV4+":0")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l, uint16(l.Addr().(*net.TCPAddr).Port)
}

// files is a web server's content, by path.
type files map[string][]byte

// serve gives the URL at which a registry's files are, over TLS.
func (f files) serve(t *testing.T) (url string, port uint16) {
	t.Helper()
	l, port := listenThere(t)
	url = fmt.Sprintf("https://allowed.test:%d", port)
	s := &http.Server{ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		content, ok := f[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		if strings.HasSuffix(r.URL.Path, "/") {
			w.Header().Set("Content-Type", "text/html")
		}
		_, _ = w.Write(bytes.ReplaceAll(content, []byte("URL"), []byte(url)))
	})}
	t.Cleanup(func() { s.Close() })
	go func() { _ = s.Serve(tls.NewListener(l, internet.tls)) }()
	return url, port
}

// zipped makes an archive of names and contents.
func zipped(t *testing.T, content map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for name, text := range content {
		w, err := z.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(w, text)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func npmRegistry(t *testing.T) files {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for name, text := range map[string]string{
		"package/package.json": `{"name": "hello", "version": "1.0.0"}`, "package/index.js": `module.exports = "hello from npm"`,
	} {
		_ = w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))})
		_, _ = io.WriteString(w, text)
	}
	if w.Close() != nil || z.Close() != nil {
		t.Fatal("make a tarball")
	}
	sum := sha512.Sum512(b.Bytes())
	return files{"/hello/-/hello-1.0.0.tgz": b.Bytes(), "/hello": fmt.Appendf(nil,
		`{"name": "hello", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": {"name": "hello", "version": "1.0.0",
		"dist": {"tarball": "URL/hello/-/hello-1.0.0.tgz", "integrity": "sha512-%s"}}}}`, base64.StdEncoding.EncodeToString(sum[:]))}
}

func pipIndex(t *testing.T) files {
	t.Helper()
	return files{
		"/simple/hello/": []byte(`<a href="URL/hello-1.0-py3-none-any.whl">hello-1.0-py3-none-any.whl</a>`),
		"/hello-1.0-py3-none-any.whl": zipped(t, map[string]string{
			"hello.py":                     `print("hello from pip")`,
			"hello-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: hello\nVersion: 1.0\n",
			"hello-1.0.dist-info/WHEEL":    "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
			"hello-1.0.dist-info/RECORD":   "hello.py,,\nhello-1.0.dist-info/METADATA,,\nhello-1.0.dist-info/WHEEL,,\nhello-1.0.dist-info/RECORD,,\n",
		}),
	}
}

func goProxy(t *testing.T) files {
	t.Helper()
	const at, mod = "/example.test/hello/@v/", "module example.test/hello\n"
	return files{
		at + "v1.0.0.info": []byte(`{"Version": "v1.0.0"}`), at + "v1.0.0.mod": []byte(mod),
		at + "v1.0.0.zip": zipped(t, map[string]string{
			"example.test/hello@v1.0.0/go.mod":   mod,
			"example.test/hello@v1.0.0/hello.go": "package main\n\nfunc main() { println(\"hello from go\") }\n",
		}),
	}
}

func mavenRepository(*testing.T) files {
	return files{"/test/hello/1.0/hello-1.0.pom": []byte(`<project><modelVersion>4.0.0</modelVersion><groupId>test</groupId>
		<artifactId>hello</artifactId><version>1.0</version><packaging>pom</packaging></project>`)}
}

// mavenChild wants a parent that only the repository has: to validate it takes
// no plugin.
const mavenChild = `<project><modelVersion>4.0.0</modelVersion><parent><groupId>test</groupId><artifactId>hello</artifactId>
	<version>1.0</version><relativePath/></parent><artifactId>child</artifactId><packaging>pom</packaging>
	<repositories><repository><id>central</id><url>'"$1"'</url></repository></repositories></project>`

func TestPackageManagersReachTheirRegistries(t *testing.T) {
	for _, c := range []struct {
		name   string
		needs  string
		files  func(*testing.T) files
		script string // $1 is the registry's URL, $2 the authority
		says   string
		slow   bool
	}{
		{"npm", "npm", npmRegistry, `npm install --silent --fetch-retries 0 --cafile "$2" --no-audit --no-fund --no-update-notifier --cache /tmp/npm --registry "$1/" hello &&
			node -p 'require("hello")'`, "hello from npm", true},
		{"pip", "/usr/bin/pip3", pipIndex, `/usr/bin/python3 -m pip install -q --disable-pip-version-check --no-cache-dir --cert "$2" --index-url "$1/simple/" \
			--target lib hello && PYTHONPATH=lib /usr/bin/python3 -c 'import hello'`, "hello from pip", false},
		{"go", goCommand(), goProxy, `export GOPATH=/tmp/go GOCACHE=/tmp/cache GOPROXY="$1" GONOSUMDB='*' GOSUMDB=off GOTOOLCHAIN=local GOFLAGS=-modcacherw
			GO mod init x.test/x 2>/dev/null && GO mod download example.test/hello@v1.0.0 && cat /tmp/go/pkg/mod/example.test/hello@v1.0.0/hello.go`,
			"hello from go", false},
		{"maven", "mvn", mavenRepository, `keytool -importcert -noprompt -file "$2" -keystore /tmp/trust -storepass changeit 2>/dev/null
			export MAVEN_OPTS="-XX:TieredStopAtLevel=1 -Djavax.net.ssl.trustStore=/tmp/trust -Djavax.net.ssl.trustStorePassword=changeit -Djava.net.useSystemProxies=false"
			echo '` + mavenChild + `' >pom.xml; mvn -q -B -Dmaven.repo.local=/tmp/m2 validate && find /tmp/m2 -name '*.pom' | xargs grep -l hello`,
			"hello-1.0.pom", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.slow && os.Getenv("SALLYPORT_CLIENTS") == "" {
				t.Skip("it takes its time: 'make test-clients' runs it")
			}
			need(t, c.needs)
			from, port := c.files(t).serve(t)
			script := strings.ReplaceAll(c.script, "GO ", goCommand()+" ")
			for _, before := range []string{"", "unset http_proxy https_proxy HTTP_PROXY HTTPS_PROXY; "} {
				r := newHome(t).allow("allowed.test").runWith(caFlags, "sh", "-c", before+script, "sh", from, internet.ca)
				r.ok().says(c.says).allowed("allowed.test", port)
				if c.name == "maven" {
					break // it looks at no proxy variable, and takes its time
				}
			}
		})
	}
}

// goCommand is where this test's own Go is, "go" if it is gone.
func goCommand() string {
	if path, err := exec.LookPath("go"); err == nil {
		return path
	}
	return "go"
}

func TestPythonLibrariesReachAllowedNamesAndNothingElse(t *testing.T) {
	const use = `import sys; url, ca = sys.argv[1:]`
	for name, code := range map[string]string{
		"requests": use + "\nimport requests; s = requests.Session(); s.trust_env = TRUST; print(s.get(url, verify=ca).text)",
		"httpx":    use + "\nimport httpx, ssl; print(httpx.get(url, verify=ssl.create_default_context(cafile=ca), trust_env=TRUST).text)",
		"aiohttp": use + `
import aiohttp, asyncio, ssl
async def main():
    async with aiohttp.ClientSession(trust_env=TRUST) as s:
        async with s.get(url, ssl=ssl.create_default_context(cafile=ca)) as r:
            print(await r.text())
asyncio.run(main())`,
	} {
		for _, trust := range []string{"True", "False"} { // whether it takes the proxy of its environment
			t.Run(name+" "+trust, func(t *testing.T) {
				if exec.Command("/usr/bin/python3", "-c", "import "+name).Run() != nil {
					t.Skipf("python3-%s is not installed", name)
				}
				argv := []string{"/usr/bin/python3", "-c", strings.ReplaceAll(code, "TRUST", trust)}
				newHome(t).allow("allowed.test").runWith(caFlags, append(argv, "https://allowed.test/x", internet.ca)...).
					ok().says("hello from allowed.test/x").allowed("allowed.test", 443)
				r := newHome(t).allow("allowed.test").runWith(caFlags, append(argv, "https://denied.test/x", internet.ca)...).refused()
				if events, _ := r.denied(); len(events) != 1 || events[0].Object.Host != "denied.test" {
					t.Errorf("recorded:\n%s", describe(events))
				}
				silent(t)
			})
		}
	}
}
