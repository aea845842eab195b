package keeper

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/cgroup"
	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/loader"
	"github.com/sallyport/sallyport/testvm"
)

func TestMain(m *testing.M) {
	Init()
	loader.Init()
	os.Exit(m.Run())
}

// kept is what a keeper sent.
type kept struct {
	mu      sync.Mutex
	records []Record
	lost    uint64
}

func (k *kept) handler() Handler {
	return Handler{
		Denied: func(r Record) { k.mu.Lock(); k.records = append(k.records, r); k.mu.Unlock() },
		Lost:   func(_ event.Operation, n uint64) { k.mu.Lock(); k.lost += n; k.mu.Unlock() },
	}
}

// newKeeper starts one for a user, and skips the test where the kernel has not what
// a keeper takes.
func newKeeper(t *testing.T, uid int) (*Client, *kept) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("a keeper is root's: the tests were started by an ordinary user")
	}
	testvm.Require(t, testvm.KernelTier...)
	f, err := Start(uid, uid)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Attach(f)
	if err != nil {
		t.Fatal(err)
	}
	k := &kept{}
	c.Serve(k.handler())
	t.Cleanup(func() { c.Abandon(); <-c.Done() })
	if h := c.Hello(); h.Err != "" {
		t.Fatalf("no tier trace, though the kernel can: %s", h.Err)
	}
	return c, k
}

// waiting starts a process of a user's that does something when it is told to.
type waiting struct {
	*exec.Cmd
	pidfd *os.File
	go_   *os.File
}

func newWaiting(t *testing.T, uid int, script string) *waiting {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.Command("/bin/sh", "-c", "read x; "+script)
	cmd.Stdin, cmd.Dir = r, "/"
	pidfd := -1
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}, PidFD: &pidfd}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &waiting{cmd, os.NewFile(uintptr(pidfd), "pidfd"), w}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait(); w.Close(); p.pidfd.Close() })
	return p
}

func (p *waiting) release(t *testing.T) {
	t.Helper()
	if _, err := p.go_.WriteString("go\n"); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(); err != nil {
		t.Fatal(err)
	}
}

func openRoot(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Open("/")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// grounds lists the cgroups of all keepers.
func grounds(t *testing.T) []string {
	t.Helper()
	mount, err := cgroup.Mount()
	if err != nil {
		t.Fatal(err)
	}
	dirs, err := filepath.Glob(filepath.Join(mount, parentName, "run-*"))
	if err != nil {
		t.Fatal(err)
	}
	return dirs
}

func secretFile(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "keeper-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "secret")
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestAKeeperTellsWhatAPlacedProcessIsRefused(t *testing.T) {
	c, k := newKeeper(t, 65534)
	secret := secretFile(t)
	p := newWaiting(t, 65534, "cat "+secret+" 2>/dev/null; true")
	if err := c.Place(p.Process.Pid, p.pidfd, Rules{Supervised: true}); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(openRoot(t)); err != nil {
		t.Fatal(err)
	}
	p.release(t)
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, r := range k.records {
		if string(r.Event.Object.Path) == secret {
			found++
			if p := r.Event.Process; p == nil || string(p.Comm) != "cat" || p.UID != 65534 {
				t.Errorf("process %+v", p)
			}
		}
	}
	if found != 1 || k.lost != 0 {
		t.Errorf("%d records about %s, %d lost", found, secret, k.lost)
	}
	if err := c.End(); err != nil {
		t.Errorf("end: %v", err)
	}
}

func TestAKeeperPlacesItsOwnUsersProcessesOnly(t *testing.T) {
	c, _ := newKeeper(t, 65534)
	others := newWaiting(t, 1, "true")
	if err := c.Place(others.Process.Pid, others.pidfd, Rules{}); err == nil || !strings.Contains(err.Error(), "another user's") {
		t.Errorf("another user's: %v", err)
	}
	own := newWaiting(t, 65534, "true")
	if err := c.Place(own.Process.Pid, others.pidfd, Rules{}); err == nil {
		t.Error("a descriptor of another process is accepted")
	}
}

func TestAPidThatIsAnothersByNowIsNotPlaced(t *testing.T) {
	c, _ := newKeeper(t, 65534)
	first := newWaiting(t, 65534, "true")
	first.release(t) // its pid is free, its descriptor is not
	if err := c.Place(first.Process.Pid, first.pidfd, Rules{}); err == nil {
		t.Error("a process that has ended is placed")
	}
}

func TestNothingIsLeftOfAKeeper(t *testing.T) {
	c, _ := newKeeper(t, 65534)
	before := len(grounds(t))
	p := newWaiting(t, 65534, "exec sleep 1000")
	if err := c.Place(p.Process.Pid, p.pidfd, Rules{}); err != nil {
		t.Fatal(err)
	}
	c.Abandon() // as if the supervisor had died
	if err := p.Wait(); err == nil {
		t.Error("what was placed outlives the supervisor")
	}
	for end := time.Now().Add(20 * time.Second); len(grounds(t)) >= before; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("left: %v", grounds(t))
		}
	}
}

func TestWhatAKilledKeeperLeftIsSwept(t *testing.T) {
	c, _ := newKeeper(t, 65534)
	p := newWaiting(t, 65534, "exec sleep 1000")
	if err := c.Place(p.Process.Pid, p.pidfd, Rules{}); err != nil {
		t.Fatal(err)
	}
	cred, err := peer(c.conn)
	if err != nil {
		t.Fatal(err)
	}
	group, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", p.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(cred, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-c.Done()
	if err := c.Flush(); err == nil {
		t.Error("a keeper that was killed answers")
	}
	mount, _ := cgroup.Mount()
	_, rel, _ := strings.Cut(string(group), "0::")
	dir := filepath.Join(mount, filepath.Dir(strings.TrimSpace(strings.SplitN(rel, "\n", 2)[0])))
	if _, err := os.Stat(dir); err != nil {
		t.Fatalf("before: %v", err)
	}
	// The lock goes a moment after the connection, and another keeper may be at it.
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		newKeeper(t, 65534)
		if _, err := os.Stat(dir); err != nil {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%s is still there", dir)
		}
	}
	if err := p.Wait(); err == nil {
		t.Error("what ran in it goes on")
	}
}

// peer gives the keeper's pid: whoever made a socket pair is its peer, so it is
// the child with that name.
func peer(*net.UnixConn) (int, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/children", os.Getpid()))
	if err != nil {
		return 0, err
	}
	tasks, _ := filepath.Glob("/proc/self/task/*/children")
	for _, f := range tasks {
		more, _ := os.ReadFile(f)
		b = append(append(b, ' '), more...)
	}
	newest := 0
	for _, s := range strings.Fields(string(b)) {
		args, _ := os.ReadFile("/proc/" + s + "/cmdline")
		var pid int
		if _, err := fmt.Sscan(s, &pid); err == nil && strings.HasPrefix(string(args), Name) {
			newest = max(newest, pid)
		}
	}
	if newest == 0 {
		return 0, os.ErrNotExist
	}
	return newest, nil
}

func TestRequestsThatMakeNoSenseHaveNoEffect(t *testing.T) {
	for name, bytes := range map[string]string{
		"not JSON": "\x00\xff\xfe", "another type": `[1,2,3]` + "\n", "endless": strings.Repeat("[", 1<<16),
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := newKeeper(t, 65534)
			if _, err := c.conn.Write([]byte(bytes)); err != nil {
				t.Fatal(err)
			}
			c.conn.CloseWrite()
			<-c.Done() // it ends, and takes everything with it
		})
	}
	c, _ := newKeeper(t, 65534)
	for _, r := range []request{{Op: "rm -rf"}, {Op: opStart}, {Op: opPlace, PID: 1}, {Op: opPlace, PID: -1}, {}} {
		if _, err := c.ask(r, nil); err == nil {
			t.Errorf("%+v is done", r)
		}
	}
	if p, _ := c.ByPID(1); p != nil {
		t.Errorf("process 1 is %+v", p)
	}
	for _, conn := range []Connection{{}, {From: "x"}, {From: "1.2.3.4:5"}, {UDP: true, From: "[::1]:9"}} {
		if p, _ := c.ByConnection(conn); p != nil {
			t.Errorf("%+v is %+v", conn, p)
		}
	}
	if err := c.Flush(); err != nil {
		t.Errorf("after all that: %v", err)
	}
}

func TestTwoKeepersDoNotDisturbEachOther(t *testing.T) {
	secret := secretFile(t)
	var wg sync.WaitGroup
	for range 4 {
		c, k := newKeeper(t, 65534)
		p := newWaiting(t, 65534, "cat "+secret+" 2>/dev/null; true")
		if err := c.Place(p.Process.Pid, p.pidfd, Rules{}); err != nil {
			t.Fatal(err)
		}
		if err := c.Start(openRoot(t)); err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			p.release(t)
			if err := c.Flush(); err != nil {
				t.Error(err)
			}
			n := 0
			for _, r := range k.records {
				if string(r.Event.Object.Path) == secret {
					n++
				}
			}
			if n != 1 {
				t.Errorf("%d records, want one's own alone", n)
			}
			if err := c.End(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func FuzzRequest(f *testing.F) {
	f.Add([]byte(`{"id":1,"op":"place","pid":1,"rules":{"any_unix":true}}`))
	f.Add([]byte(`{"id":18446744073709551615,"op":"conn","conn":{"udp":true,"from":"1.2.3.4:5","to":""}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var r request
		if json.Unmarshal(b, &r) != nil {
			return
		}
		k := &keeper{} // nothing was placed: there is nobody to tell of
		if w := k.who(r); w != nil {
			t.Errorf("%s: %+v", b, w)
		}
		runtime.KeepAlive(k)
	})
}
