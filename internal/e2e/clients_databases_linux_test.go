package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// speakRedis answers PING and GET (the Redis serialization protocol, 2).
func speakRedis(c net.Conn) {
	defer c.Close()
	br := bufio.NewReader(c)
	for {
		var n int
		if _, err := fmt.Fscanf(br, "*%d\r\n", &n); err != nil {
			return
		}
		words := make([]string, n)
		for i := range words {
			var size int
			if _, err := fmt.Fscanf(br, "$%d\r\n", &size); err != nil || size > 1<<16 {
				return
			}
			b := make([]byte, size+2)
			if _, err := io.ReadFull(br, b); err != nil {
				return
			}
			words[i] = strings.ToUpper(string(b[:size]))
		}
		answer := "-ERR unknown command\r\n"
		switch {
		case slices.Equal(words, []string{"PING"}):
			answer = "+PONG\r\n"
		case slices.Equal(words, []string{"GET", "GREETING"}):
			answer = "$16\r\nhello from redis\r\n"
		}
		if _, err := io.WriteString(c, answer); err != nil {
			return
		}
	}
}

// speakPostgres lets nobody in, in its own words (PostgreSQL's protocol, 3.0).
func speakPostgres(c net.Conn) {
	defer c.Close()
	_, _ = io.ReadFull(c, make([]byte, 8)) // SSLRequest
	_, _ = io.WriteString(c, "N")
	_, _ = c.Read(make([]byte, 1024)) // StartupMessage
	const say = "SFATAL\x00C28000\x00Mhello from postgres\x00\x00"
	_, _ = c.Write(append([]byte{'E', 0, 0, 0, byte(4 + len(say))}, say...))
}

func TestDatabaseClientsReachServersByName(t *testing.T) {
	for _, c := range []struct {
		name  string
		speak func(net.Conn)
		argv  []string
		says  string
	}{
		{"redis-cli", speakRedis, []string{"redis-cli", "-h", "allowed.test", "-p", "PORT", "get", "greeting"}, "hello from redis"},
		{"psql", speakPostgres, []string{"sh", "-c", `psql -h allowed.test -p "$1" -U me -c 'select 1' 2>&1; true`, "sh", "PORT"}, "hello from postgres"},
	} {
		t.Run(c.name, func(t *testing.T) {
			need(t, c.name)
			l, port := listenThere(t)
			go func() {
				for {
					conn, err := l.Accept()
					if err != nil {
						return
					}
					go c.speak(conn)
				}
			}()
			argv := slices.Clone(c.argv)
			for i, a := range argv {
				argv[i] = strings.ReplaceAll(a, "PORT", fmt.Sprint(port))
			}
			newHome(t).allow("allowed.test").run(argv...).ok().says(c.says).allowed("allowed.test", port)
		})
	}
}

// serverThere starts a database on the far side, as an ordinary user, with a
// directory of its own; argv may say DIR and PORT.
func serverThere(t *testing.T, name string, prepare []string, argv ...string) (port uint16) {
	t.Helper()
	l, port := listenThere(t)
	l.Close() // its port is free now
	uid, gid := ordinary()
	dir := filepath.Join(base, name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, uid, gid); err != nil {
		t.Fatal(err)
	}
	command := func(argv []string) *exec.Cmd {
		words := slices.Clone(argv)
		for i := range words {
			words[i] = strings.NewReplacer("DIR", dir, "PORT", fmt.Sprint(port)).Replace(words[i])
		}
		c := exec.Command(words[0], words[1:]...)
		c.Dir, c.Env = dir, []string{"PATH=" + userPath, "LC_ALL=C", "HOME=" + dir}
		if os.Getuid() == 0 {
			c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
		}
		return c
	}
	if prepare != nil {
		if out, err := command(prepare).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", prepare[0], err, out)
		}
	}
	server := command(argv)
	if err := internet.there(server.Start); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Signal(syscall.SIGINT)
		_ = server.Wait()
		_ = os.RemoveAll(dir)
	})
	return port
}

func TestRealRedisServerIsReached(t *testing.T) {
	need(t, "redis-cli", "redis-server")
	port := serverThere(t, "redis", nil, "redis-server", "--bind", thereV4, "--port", "PORT", "--save", "", "--protected-mode", "no", "--dir", "DIR")
	newHome(t).allow("allowed.test").
		sh(fmt.Sprintf(`r() { redis-cli -h allowed.test -p %d "$@"; }; until r ping | grep -q PONG; do sleep .1; done; r set a hello; r get a`, port)).
		ok().says("hello").allowed("allowed.test", port)
}

func TestRealPostgreSQLServerIsReached(t *testing.T) {
	need(t, "psql")
	bins, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	if len(bins) == 0 {
		t.Skip("postgresql is not installed")
	}
	bin := bins[len(bins)-1]
	port := serverThere(t, "postgres",
		[]string{"sh", "-c", bin + `/initdb -N -A trust -U me -D DIR/db && echo "host all all all trust" >>DIR/db/pg_hba.conf`},
		bin+"/postgres", "-D", "DIR/db", "-k", "DIR", "-h", thereV4, "-p", "PORT", "-F")
	newHome(t).allow("allowed.test").
		sh(fmt.Sprintf(`q() { psql -h allowed.test -p %d -U me -d postgres -Atc "$1"; }; until q "select 1" >/dev/null 2>&1; do sleep .1; done; q "select 6*7"`, port)).
		ok().says("42\n").allowed("allowed.test", port)
}
