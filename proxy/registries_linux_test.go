package proxy

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// registry is a package index of three kinds with one package in each.
func registry(host string) http.Handler {
	wheel := zipped(map[string]string{
		"hello.py":                      "print('hello')\n",
		"hello-1.0.dist-info/METADATA":  "Metadata-Version: 2.1\nName: hello\nVersion: 1.0\n",
		"hello-1.0.dist-info/WHEEL":     "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
		"hello-1.0.dist-info/RECORD":    "",
		"hello-1.0.dist-info/top_level": "hello\n",
	})
	pack := tarred("package/package.json", `{"name":"hello","version":"1.0.0"}`)
	sum := sha512.Sum512(pack)
	const mod = "module example.test/hello\n"
	module := zipped(map[string]string{
		"example.test/hello@v1.0.0/go.mod":   mod,
		"example.test/hello@v1.0.0/hello.go": "package hello\n",
	})
	files := map[string][]byte{
		"/simple/hello/":                        []byte(`<a href="/hello-1.0-py3-none-any.whl">hello-1.0-py3-none-any.whl</a>`),
		"/hello-1.0-py3-none-any.whl":           wheel,
		"/npm/hello/-/hello-1.0.0.tgz":          pack,
		"/go/example.test/hello/@v/list":        []byte("v1.0.0\n"),
		"/go/example.test/hello/@latest":        []byte(`{"Version":"v1.0.0"}`),
		"/go/example.test/hello/@v/v1.0.0.info": []byte(`{"Version":"v1.0.0"}`),
		"/go/example.test/hello/@v/v1.0.0.mod":  []byte(mod),
		"/go/example.test/hello/@v/v1.0.0.zip":  module,
		"/npm/hello": fmt.Appendf(nil, `{"name":"hello","dist-tags":{"latest":"1.0.0"},"versions":{"1.0.0":{"name":"hello","version":"1.0.0",
			"dist":{"tarball":"https://%s/npm/hello/-/hello-1.0.0.tgz","integrity":"sha512-%s"}}}}`, host, base64.StdEncoding.EncodeToString(sum[:])),
	}
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		b, ok := files[q.URL.Path]
		if !ok {
			http.NotFound(w, q)
			return
		}
		if strings.HasPrefix(q.URL.Path, "/simple/") {
			w.Header().Set("Content-Type", "text/html")
		}
		w.Write(b)
	})
}

func zipped(files map[string]string) []byte {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for name, text := range files {
		w, _ := z.Create(name)
		w.Write([]byte(text))
	}
	z.Close()
	return b.Bytes()
}

func tarred(name, text string) []byte {
	var b bytes.Buffer
	g := gzip.NewWriter(&b)
	w := tar.NewWriter(g)
	w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))})
	w.Write([]byte(text))
	w.Close()
	g.Close()
	return b.Bytes()
}

func TestPackageManagers(t *testing.T) {
	if testing.Short() {
		t.Skip("long")
	}
	r := newRig(t, allowing("pkg.test"), realOrigin)
	n := newNetns(t, r)
	ca := newAuthority(t, n.dir)
	r.outside("pkg.test", 443, ca.serve(t, "pkg.test", registry("pkg.test")))
	proxy := fmt.Sprintf("http://%s:%d", netnsV4, netnsPort)
	for _, way := range []struct {
		name string
		env  []string
	}{
		{"captured", nil},
		{"by proxy variables", []string{"HTTPS_PROXY=" + proxy, "HTTP_PROXY=" + proxy, "https_proxy=" + proxy, "http_proxy=" + proxy}},
	} {
		for _, c := range []struct {
			name string
			argv []string
			file string // what must be there afterwards
		}{
			{"pip", []string{"pip", "download", "-q", "--disable-pip-version-check", "--no-cache-dir", "--no-deps", "--cert", ca.file,
				"-d", "%s", "-i", "https://pkg.test/simple", "hello"}, "hello-1.0-py3-none-any.whl"},
			{"npm", []string{"npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", "%s", "--cache", "%s/cache",
				"--registry", "https://pkg.test/npm", "hello"}, "node_modules/hello/package.json"},
			{"go", []string{"go", "mod", "download", "example.test/hello@v1.0.0"}, "mod/example.test/hello@v1.0.0/hello.go"},
		} {
			t.Run(c.name+"/"+way.name, func(t *testing.T) {
				if _, err := exec.LookPath(c.name); err != nil {
					t.Skipf("%s is not installed", c.name)
				}
				dir := t.TempDir()
				var argv []string
				for _, a := range c.argv {
					argv = append(argv, strings.ReplaceAll(a, "%s", dir))
				}
				env := append([]string{"SSL_CERT_FILE=" + ca.file, "NODE_EXTRA_CA_CERTS=" + ca.file, "GOPROXY=https://pkg.test/go",
					"GOSUMDB=off", "GOFLAGS=-modcacherw", "GOTOOLCHAIN=local", "GOMODCACHE=" + dir + "/mod", "GOPATH=" + dir, "GOCACHE=" + dir + "/gocache"}, way.env...)
				out, err := n.run(env, argv...)
				if _, missing := os.Stat(dir + "/" + c.file); err != nil || missing != nil {
					t.Errorf("%v, %v: %s", err, missing, out)
				}
			})
		}
	}
	if d := r.denials(); len(d) != 0 {
		t.Errorf("denials %s", show(d))
	}
}
