package e2e

import (
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
)

// connectTo is what a client sends to a proxy to be led to a target.
func connectTo(target string) []string {
	return []string{"proxy", `CONNECT ` + target + ` HTTP/1.1\r\nHost: ` + target + `\r\n\r\n`}
}

func TestOtherSpellingsOfAnAllowedNameAreTheSameName(t *testing.T) {
	for _, host := range []string{"ALLOWED.test", "allowed.test."} {
		newHome(t).allow("allowed.test").run("curl", "-sS", "--fail", "http://"+host+"/x").ok().says("/x").allowed("allowed.test", 80)
		newHome(t).allow("allowed.test").run("curl", "-sS", "--fail", "--noproxy", "*", "http://"+host+"/x").ok().says("/x").allowed("allowed.test", 80)
	}
}

// TestHostsOwnServersAreOutOfReach holds a server on the host's loopback, and
// one on its address, against every way there could be.
func TestHostsOwnServersAreOutOfReach(t *testing.T) {
	l, err := net.Listen("tcp", "[::]:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var accepted atomic.Int32
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted.Add(1)
			c.Close()
		}
	}()
	at := l.Addr().(*net.TCPAddr).Port
	port := ":" + strconv.Itoa(at)
	for _, try := range [][]string{
		{"tcp", "127.0.0.1" + port}, {"tcp", "[::1]" + port}, {"tcp", "127.9.9.9" + port}, {"tcp", "0.0.0.0" + port},
		{"tcp", hereV4 + port}, {"tcp", "[" + hereV6 + "]" + port}, {"tcp", "rebind.test" + port}, {"tcp", "rebind6.test" + port},
		{"tcp", "here.test" + port}, connectTo("localhost" + port), connectTo("127.0.0.1" + port), connectTo("rebind.test" + port),
		{"socks", "localhost", port[1:]}, {"socks", "127.0.0.1", port[1:]}, {"socks", "here.test", port[1:]},
	} {
		t.Run(strings.Join(try[:2], " "), func(t *testing.T) {
			newHome(t).allow("rebind.test", "rebind6.test", "here.test").try(try...).refused()
		})
	}
	if n := accepted.Load(); n != 0 {
		t.Errorf("the host's server was reached %d times", n)
	}
	// The server is there.
	if c, err := net.Dial("tcp", "127.0.0.1"+port); err != nil {
		t.Error(err)
	} else {
		c.Close()
	}
}
