package policy

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"
)

func TestPublishedPortsAreOfTheHostsLoopback(t *testing.T) {
	for text, want := range map[string]string{
		`3000`:                      "127.0.0.1:3000 3000",
		`"3000"`:                    "127.0.0.1:3000 3000",
		`"8080:80"`:                 "127.0.0.1:8080 80",
		`"127.0.0.1:8080:80"`:       "127.0.0.1:8080 80",
		`"127.8.8.8:8080:80"`:       "127.8.8.8:8080 80",
		`"[::1]:8080:80"`:           "[::1]:8080 80",
		`"0.0.0.0:8080:80"`:         "no loopback address",
		`"[::]:8080:80"`:            "no loopback address",
		`"192.168.1.2:8080:80"`:     "no loopback address",
		`"[::ffff:127.0.0.1]:80:1"`: "publish wants",
		`"::1:8080:80"`:             "publish wants",
		`"[127.0.0.1]:8080:80"`:     "publish wants",
		`"[::1%lo]:8080:80"`:        "publish wants",
		`"localhost:8080:80"`:       "publish wants",
		`"8080:"`:                   "publish wants",
		`":80"`:                     "publish wants",
		`"0:80"`:                    "publish wants",
		`"080"`:                     "publish wants",
		`"65536"`:                   "publish wants",
		`"80/tcp"`:                  "publish wants",
		`"80-90"`:                   "publish wants",
		`0`:                         "from 1 to 65535",
	} {
		got := ""
		f, err := Parse(Source{Name: "p.yaml", Data: []byte("publish: [" + text + "]")})
		if err != nil {
			got = err.Error()
		} else {
			p, err := New(testEnv, f)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range p.Publish() {
				got += fmt.Sprint(r.Host, " ", r.Port)
			}
		}
		if !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

func TestPortsOfFilesUnite(t *testing.T) {
	p := mustPolicy(t, testEnv, `{publish: ["3000", "8080:80"], hostPorts: [5432]}`, "# one\n{publish: [3000], hostPorts: [5432, 6379]}")
	if list := p.Publish(); len(list) != 2 || list[0].Rule.String() != "p0.yaml:1" {
		t.Errorf("published: %+v", list)
	}
	list := p.HostPorts()
	if len(list) != 2 || list[1].Port != 6379 || list[1].Rule.String() != "p1.yaml:2" {
		t.Errorf("host ports: %+v", list)
	}
	list[0].Port = 22
	if p.HostPorts()[0].Port != 5432 {
		t.Error("a caller can change the policy")
	}
	if _, err := Parse(Source{Name: "p.yaml", Data: []byte("hostPorts: [53]")}); err == nil {
		t.Error("the resolver's port can be taken")
	}
}

func TestLimitsAreReadAsCgroupsHaveThem(t *testing.T) {
	for text, want := range map[string]Limits{
		`{}`:                             {},
		`{memory: 2G, pids: 100}`:        {Memory: 2 << 30, PIDs: 100},
		`{memory: 65536}`:                {Memory: 65536},
		`{memory: "512M", cpu: 1.5}`:     {Memory: 512 << 20, CPU: 1.5},
		`{memory: 1T, cpu: 2}`:           {Memory: 1 << 40, CPU: 2},
		`{memory: 3K, cpu: "150%"}`:      {Memory: 3 << 10, CPU: 1.5},
		`{cpu: "0.5", time: 1h30m}`:      {CPU: .5, Time: 90 * time.Minute},
		`{pids: 1, cpu: 1%, time: 10ms}`: {PIDs: 1, CPU: .01, Time: 10 * time.Millisecond},
	} {
		l := mustPolicy(t, testEnv, "limits: "+text).Limits()
		for key := range l.Rules {
			if l.Rules[key].String() != "p0.yaml:1" {
				t.Errorf("%s: %s is said to be of %s", text, key, l.Rules[key])
			}
		}
		l.Rules = nil
		if l.Memory != want.Memory || l.PIDs != want.PIDs || math.Abs(l.CPU-want.CPU) > 1e-9 || l.Time != want.Time {
			t.Errorf("%s: %+v, want %+v", text, l, want)
		}
	}
	for _, bad := range []string{`{memory: 0}`, `{memory: 2X}`, `{memory: G}`, `{memory: -1}`, `{memory: 9999999999T}`, `{memory: +2G}`,
		`{pids: 0}`, `{pids: "5"}`, `{cpu: 0}`, `{cpu: -1}`, `{cpu: 0.001}`, `{cpu: .nan}`, `{cpu: .inf}`, `{cpu: lots}`, `{time: 0s}`, `{time: 5}`, `{disk: 1G}`} {
		if _, err := Parse(Source{Name: "p.yaml", Data: []byte("limits: " + bad)}); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
	l := mustPolicy(t, testEnv, `limits: {pids: 5, cpu: 1}`, "# one\nlimits: {pids: 7}").Limits()
	if l.PIDs != 7 || l.CPU != 1 || l.Rules["limits.pids"].String() != "p1.yaml:2" || l.Rules["limits.cpu"].String() != "p0.yaml:1" {
		t.Errorf("of two files: %+v", l)
	}
}
