package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/bypass"
	"github.com/sallyport/sallyport/internal/event"
)

// TestBypass makes every attempt of the table as an ordinary user.
func TestBypass(t *testing.T) { testBypasses(t, newHome(t)) }

// TestBypassAsRoot makes them where root starts sallyport, for the ordinary user.
func TestBypassAsRoot(t *testing.T) {
	needKernelTier(t)
	if os.Getenv(tierEnv) == "trace" {
		t.Skip("TestBypass is the same")
	}
	t.Setenv(tierEnv, "trace")
	testBypasses(t, newHome(t))
}

// TestBypassWithAnAgent makes them as an ordinary user whose machine has an agent.
func TestBypassWithAnAgent(t *testing.T) { testBypasses(t, newMachine(t).home()) }

// bypasses is what came of the whole table in one tier.
type bypasses struct {
	h       *home
	world   bypassWorld
	tier    event.Tier
	vectors []bypass.Vector
	made    map[string]bypassMade
	events  []event.Event
	claimed map[int]bool // events that belong to a vector
	missing []string     // what the runs say they do not record
	doctor  string       // what doctor says
	driver  map[bypass.Policy]int
}

// bypassMade is what came of one attempt.
type bypassMade struct {
	result  string
	pid     int
	outside string // empty: not tried
	wrong   []string
}

func testBypasses(t *testing.T, h *home) {
	b := &bypasses{h: h, world: h.bypassWorld(), made: map[string]bypassMade{}, claimed: map[int]bool{}, driver: map[bypass.Policy]int{}}
	for _, v := range bypass.Vectors() {
		b.vectors = append(b.vectors, b.world.expand(v))
	}
	for _, p := range bypass.Policies() {
		b.makeAll(p)
	}
	said, _ := h.command(t.Context(), "doctor").Output() // its status says what else is missing
	b.doctor = string(said)
	b.events = h.events()
	for _, e := range b.events {
		b.tier = max(b.tier, e.Sandbox.Tier)
	}
	for _, v := range b.vectors {
		t.Run(v.ID, func(t *testing.T) { b.judge(t, v) })
	}
	for i, e := range b.events {
		if e.Verdict.Denied() && e.Reason != event.System && !b.claimed[i] {
			t.Errorf("recorded, and no attempt of the table:\n%s", describe(b.events[i:i+1]))
		}
	}
}

// makeAll makes the attempts under one policy.
func (b *bypasses) makeAll(p bypass.Policy) {
	t := b.h.t
	b.h.usePolicy(p.Text())
	summary := filepath.Join(b.h.dir, "summary.json")
	a := b.h.attacker([]string{"--json-summary", summary}, b.world.connection)
	b.driver[p] = a.driver
	quiet := b.controls(p)
	before := b.world.state()
	for _, lookedUp := range []bool{false, true} { // those of which nothing at all arrives come first
		for _, v := range b.vectors {
			if v.Policy == p && len(v.Try) > 0 && (len(v.Arrives) > 0) == lookedUp {
				b.make(a, v)
			}
		}
		if n := internet.countPackets() - quiet; n != 0 && !lookedUp {
			t.Errorf("policy %q: %d packets arrived outside", p, n)
		}
	}
	a.end()
	if now := b.world.state(); now != before {
		t.Errorf("the host has changed:\n%s\nwas:\n%s", now, before)
	}
	var s struct {
		NotRecorded []string `json:"not_recorded"`
	}
	if text, err := os.ReadFile(summary); err != nil || json.Unmarshal(text, &s) != nil {
		t.Errorf("summary: %v: %s", err, text)
	}
	b.missing = s.NotRecorded
}

// controls makes those attempts without a sandbox that show that they are some,
// and gives the number of packets that the far side has seen when it is quiet.
func (b *bypasses) controls(p bypass.Policy) (packets int) {
	for _, v := range b.vectors {
		if v.Policy == p && v.Outside != "" {
			b.made[v.ID] = bypassMade{outside: b.tryOutside(v)}
		}
	}
	for same := 0; same < 10; same++ {
		if n := internet.countPackets(); n != packets {
			packets, same = n, 0
		}
		time.Sleep(10 * time.Millisecond)
	}
	return packets
}

// make makes one attempt inside.
func (b *bypasses) make(a *attacker, v bypass.Vector) {
	m := b.made[v.ID]
	b.world.forget()
	m.result, m.pid = a.try(v.ID, v.Try)
	if port := 0; v.ID == "listen-without-bind" && sscan(m.result, "port %d", &port) {
		m.result = "alone"
		if c, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			c.Close()
			m.result = "reached"
		}
	}
	m.wrong = append(b.world.reached(), arrivedBeyond(v.Arrives)...)
	b.made[v.ID] = m
}

func sscan(s, format string, to ...any) bool {
	_, err := fmt.Sscanf(s, format, to...)
	return err == nil
}

// tryOutside shows that an attempt is one. What would load a part of the kernel is
// not tried on a machine that is somebody's own.
func (b *bypasses) tryOutside(v bypass.Vector) string {
	if v.Module != "" && os.Getenv("SALLYPORT_TESTVM") == "" {
		list, _ := os.ReadFile("/proc/net/protocols")
		if !strings.Contains("\n"+string(list), "\n"+v.Module+" ") {
			return "tests load no part of the kernel, and " + v.Module + " is not loaded"
		}
	}
	result := b.h.tryOutside(v.Try)
	if result != v.Outside {
		return "without a sandbox it ends with " + result
	}
	return result
}

// arrivedBeyond lists what the far side has seen besides.
func arrivedBeyond(allowed []string) (list []string) {
	for what, n := range internet.all() {
		if slices.Contains(allowed, what) {
			continue
		}
		list = append(list, fmt.Sprintf("arrived outside: %s (%d)", what, n))
	}
	return list
}

// judge says of one vector whether it was refused, and is recorded as it should be.
func (b *bypasses) judge(t *testing.T, v bypass.Vector) {
	if len(v.Held) > 0 {
		t.Logf("%s%s: %s%s", bypass.Prefix, b.tier, bypass.HeldBy, strings.Join(v.Held, ", "))
		return
	}
	m := b.made[v.ID]
	for _, w := range m.wrong {
		t.Error(w)
	}
	if wants := strings.Split(v.Want, "|"); m.result == "ok" || strings.HasPrefix(m.result, "there is no attempt") || v.Want != "" && !slices.Contains(wants, strings.Fields(m.result)[0]) {
		t.Errorf("not refused as it should be: %s, want %s", m.result, v.Want)
	}
	if m.pid == 0 {
		t.Error("the process that tried was not seen outside")
	}
	if v.Outside != "" && m.outside != v.Outside && strings.HasSuffix(m.outside, " "+m.result) {
		t.Skipf("%s%s: %s%s", bypass.Prefix, b.tier, bypass.CannotTry, m.outside) // the kernel knows of no such thing
	}
	word := bypass.NotThere
	cannot := v.Outside != "" && m.outside != v.Outside
	if record, ok := v.At(b.tier); ok && record.Barred != "" && strings.HasPrefix(m.result, record.Barred) {
		t.Skipf("%s%s: %s%s", bypass.Prefix, b.tier, bypass.CannotTry, "the kernel refuses it to every ordinary user: "+m.result)
	} else if ok && record.Program != "" && cannot {
		t.Logf("%s starts, and has nobody to turn to", record.Program)
	} else if ok {
		b.judgeRecord(t, v, record)
		word = bypass.Recorded
	} else if n := b.mine(v); len(n) > 0 {
		t.Errorf("recorded, though tier %s does not claim to:\n%s", b.tier, describe(n))
	} else if v.Missing != "" {
		word = bypass.NotRecorded
		if !slices.ContainsFunc(b.missing, func(s string) bool { return strings.HasPrefix(s, v.Missing) }) {
			t.Errorf("not recorded, and the summary does not say so: %q", b.missing)
		}
		if !strings.Contains(b.doctor, "file denials are refused but not recorded") {
			t.Errorf("not recorded, and doctor does not say so:\n%s", b.doctor)
		}
	}
	if cannot {
		t.Skipf("%s%s: %s%s", bypass.Prefix, b.tier, bypass.CannotTry, m.outside)
	}
	t.Logf("%s%s: %s", bypass.Prefix, b.tier, word)
}

// mine gives the denials of a vector's process, or of one that it started, and
// marks them. What the host's own permissions refuse on the way is no attempt,
// unless it is the one.
func (b *bypasses) mine(v bypass.Vector) (list []event.Event) {
	record, _ := v.At(b.tier)
	for i, e := range b.events {
		if !e.Verdict.Denied() || e.Reason == event.System && !recordMatches(record, e) {
			continue
		}
		if authorOf(e) == v.ID || e.Process == nil && record.Op != event.OpUnknown && recordMatches(record, e) {
			list = append(list, e)
			b.claimed[i] = true
		}
	}
	return list
}

// authorOf is the name that an attempt's process has as its first argument.
func authorOf(e event.Event) string {
	if e.Process == nil {
		return ""
	}
	for _, p := range append([]event.Process{*e.Process}, e.Ancestors...) {
		if len(p.Argv) > 2 && strings.HasSuffix(string(p.Argv[0]), "/helper") {
			return string(p.Argv[1])
		}
	}
	return ""
}

func recordMatches(r bypass.Record, e event.Event) bool {
	o := e.Object
	return e.Operation == r.Op && (r.Raced || e.Reason == r.Reason) && (r.Rule == "" || e.Rule == "builtin:"+r.Rule) &&
		(r.Host == "" || string(o.Host) == r.Host) && (r.Addr == "" || o.Addr == r.Addr) && (r.Port == 0 || o.Port == r.Port) &&
		(r.Path == "" || string(o.Path) == r.Path) && (r.Socket == "" || o.Socket == r.Socket || o.Syscall == r.Socket)
}

// judgeRecord wants the attempt in the record once, with the process that made it
// and the one that started this.
func (b *bypasses) judgeRecord(t *testing.T, v bypass.Vector, want bypass.Record) {
	m, n := b.made[v.ID], uint64(0)
	list := b.mine(v)
	for _, e := range list {
		n += e.Count
		if !recordMatches(want, e) {
			t.Errorf("recorded otherwise: want %+v", want)
		}
		if p := e.Process; p == nil && (want.Late || b.tier == event.TierRootless && e.Layer == event.LayerNFT) {
			t.Log("who it was could not be found out afterwards")
		} else if want.Program != "" {
			if p == nil || filepath.Base(string(p.Exe)) != want.Program || len(e.Ancestors) == 0 || e.Ancestors[0].PID != m.pid {
				t.Errorf("by process %+v, want %s, below %d", p, want.Program, m.pid)
			}
		} else if p == nil || p.PID != m.pid || string(p.Exe) != b.h.helperPath() || topOf(e).PID != b.driver[v.Policy] {
			t.Errorf("by process %+v, want %d, below %d", p, m.pid, b.driver[v.Policy])
		}
	}
	times := max(want.Count, 1)
	sscan(m.result, "EROFS %d", &times) // a race, which says how often
	if n != times && !(want.Resent && n > times) {
		t.Errorf("%d attempts recorded, want %d", n, times)
	}
	if t.Failed() {
		t.Logf("result %q, recorded\n%s", m.result, describe(list))
		all := slices.DeleteFunc(slices.Clone(b.events), func(e event.Event) bool { return authorOf(e) != v.ID })
		t.Logf("all that this process is recorded with:\n%s", describe(all[:min(len(all), 8)]))
	}
}
