package policy

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// warned reports whether a warning has some words.
func warned(p *Policy, words ...string) bool {
	return slices.ContainsFunc(p.Warnings(), func(w Warning) bool {
		return !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(w.Rule.String()+": "+w.Message, word) })
	})
}

func TestACeilingBoundsPorts(t *testing.T) {
	const own = `own: {publish: ["3000", "8080:80"], hostPorts: [5432, 6379]}`
	for _, c := range []struct {
		above string
		want  string
	}{
		{`ceiling: {}`, "3000 80 5432 6379"},
		{`ceiling: {publish: [3000]}`, "3000 5432 6379"},
		{`ceiling: {publish: ["8080:81"], hostPorts: [22, 6379]}`, "6379"},
		{`ceiling: {publish: ["127.0.0.2:8080:80"]}`, "5432 6379"},
		{`ceiling: {publish: [], hostPorts: []}`, ""},
	} {
		p := layered(t, strings.Replace(c.above, "{}", "{require: {tier: rootless}}", 1), own)
		var got []string
		for _, r := range p.Publish() {
			got = append(got, fmt.Sprint(r.Port))
		}
		for _, r := range p.HostPorts() {
			got = append(got, fmt.Sprint(r.Port))
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %v, want %s", c.above, got, c.want)
		}
	}
	p := layered(t, "ceiling: # \n{publish: [3000], hostPorts: [1]}", own, `ceiling: {publish: [3000, "8080:80"]}`)
	if len(p.Publish()) != 1 || !warned(p, "own.yaml:1", "publish: port 80 at 127.0.0.1:8080", "ceiling.yaml:2") || !warned(p, "hostPorts: port 5432", "ceiling.yaml:2") {
		t.Errorf("%+v\n%+v", p.Publish(), p.Warnings())
	}
	// A ceiling opens nothing.
	if p := layered(t, `ceiling: {publish: [3000], hostPorts: [5432]}`, `own: {require: {tier: rootless}}`); len(p.Publish())+len(p.HostPorts()) != 0 {
		t.Errorf("%+v %+v", p.Publish(), p.HostPorts())
	}
}

func TestPortsOfAProjectWaitForTrust(t *testing.T) {
	const ports = `{publish: [3000], hostPorts: [5432]}`
	if p := layered(t, "project: "+ports); len(p.Publish())+len(p.HostPorts()) != 0 || !warned(p, "publish does not count") || !warned(p, "hostPorts does not count") {
		t.Errorf("%+v %+v %+v", p.Publish(), p.HostPorts(), p.Warnings())
	}
	if p := layered(t, "own: {publish: [80]}", "trusted: "+ports); len(p.Publish()) != 2 || len(p.HostPorts()) != 1 {
		t.Errorf("%+v %+v", p.Publish(), p.HostPorts())
	}
	if p := layered(t, "ceiling: {publish: [80]}", "trusted: "+ports); len(p.Publish()) != 0 {
		t.Errorf("%+v", p.Publish())
	}
}

func TestTheLeastOfTheLimitsHolds(t *testing.T) {
	p := layered(t, `ceiling: {limits: {memory: 1G, pids: 100, time: 10m}}`, `ceiling: {limits: {memory: 2G, cpu: 2}}`,
		`own: {limits: {memory: 4G, pids: 50}}`, `project: {limits: {pids: 500, time: 1m}}`)
	l := p.Limits()
	if l.Memory != 1<<30 || l.PIDs != 50 || l.CPU != 2 || l.Time != time.Minute {
		t.Errorf("%+v", l)
	}
	for key, want := range map[string]string{"memory": "ceiling.yaml:1", "pids": "own.yaml:1", "cpu": "ceiling.yaml:1", "time": "/home/u/proj/.sallyport.yaml:1"} {
		if got := l.Rules["limits."+key].String(); got != want {
			t.Errorf("%s is of %s, want %s", key, got, want)
		}
	}
	// A trusted project's are as the user's own: the last counts, below the ceiling.
	if l := layered(t, `ceiling: {limits: {pids: 100}}`, `own: {limits: {pids: 10}}`, `trusted: {limits: {pids: 1000}}`).Limits(); l.PIDs != 100 {
		t.Errorf("%+v", l)
	}
}

func TestWhatIsShownOfPortsAndLimitsIsAPolicy(t *testing.T) {
	p := layered(t, `ceiling: {limits: {pids: 100}, publish: ["[::1]:8080:80"]}`,
		`own: {limits: {memory: 1G, cpu: 1.5, time: 90s}, publish: ["[::1]:8080:80", 3000], hostPorts: [5432]}`)
	var text string
	for _, l := range p.Lines() {
		if !l.Dead {
			text += l.Text + "\n"
		}
	}
	again := mustPolicy(t, testEnv, text)
	a, b := p.Limits(), again.Limits()
	if a.Memory != b.Memory || a.PIDs != b.PIDs || a.CPU != b.CPU || a.Time != b.Time || len(again.Publish()) != 1 || again.Publish()[0].Host != p.Publish()[0].Host ||
		again.Publish()[0].Port != 80 || len(again.HostPorts()) != 1 {
		t.Errorf("%+v became %+v, %+v\n%s", a, b, again.Publish(), text)
	}
}

// Whatever the layers below say, no more than every ceiling has.
func TestNoLayerGoesBeyondACeilingsPortsAndLimits(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 2))
	file := func(layer string) string {
		var keys []string
		for _, key := range []string{"publish", "hostPorts"} {
			if r.IntN(2) == 0 {
				var list []string
				for range r.IntN(4) {
					list = append(list, fmt.Sprint(80+r.IntN(4)))
				}
				keys = append(keys, key+": ["+strings.Join(list, ", ")+"]")
			}
		}
		if r.IntN(2) == 0 {
			keys = append(keys, fmt.Sprintf("limits: {pids: %d, cpu: %d}", 1+r.IntN(9), 1+r.IntN(9)))
		}
		return layer + ": {" + strings.Join(append(keys, "require: {tier: rootless}"), ", ") + "}"
	}
	opened := 0
	for range cases(200, 60) {
		above, other := file("ceiling"), file("ceiling")
		texts := []string{above, other, file("own"), file([]string{"project", "trusted"}[r.IntN(2)])}
		p := layered(t, texts...)
		free := layered(t, texts[2:]...)
		for _, c := range []string{above, other} {
			// The ceiling's own words, as the user's.
			own := layered(t, strings.Replace(c, "ceiling", "own", 1))
			for _, port := range p.Publish() {
				if strings.Contains(c, "publish") && !slices.ContainsFunc(own.Publish(), func(o Publish) bool { return o.Port == port.Port }) {
					t.Fatalf("port %d is published: %v", port.Port, texts)
				}
			}
			for _, port := range p.HostPorts() {
				if strings.Contains(c, "hostPorts") && !slices.ContainsFunc(own.HostPorts(), func(o HostPort) bool { return o.Port == port.Port }) {
					t.Fatalf("the host's port %d is open: %v", port.Port, texts)
				}
			}
			for _, v := range [][2]float64{{float64(p.Limits().PIDs), float64(own.Limits().PIDs)}, {p.Limits().CPU, own.Limits().CPU}} {
				if v[1] > 0 && (v[0] == 0 || v[0] > v[1]) {
					t.Fatalf("a limit of %v over one of %v: %v", v[0], v[1], texts)
				}
			}
		}
		if len(p.Publish()) > len(free.Publish()) || len(p.HostPorts()) > len(free.HostPorts()) {
			t.Fatalf("a ceiling opens ports: %v", texts)
		}
		opened += len(p.Publish()) + len(p.HostPorts())
	}
	if opened == 0 {
		t.Error("nothing was ever open: this tests nothing")
	}
}

func TestACeilingSaysWhoMayDecideOutside(t *testing.T) {
	const above = `ceiling: {network: {authorizer: {unix: /run/judge, timeout: 100ms, ttl: 30s, negativeTTL: 1m}}}`
	if a := layered(t, above, `own: {network: {authorizer: {unix: /run/judge, ttl: 5m}}}`).Authorizer(); a == nil ||
		a.Unix != "/run/judge" || a.Timeout != 100*time.Millisecond || a.TTL != 30*time.Second || a.NegativeTTL != time.Minute || a.Rule.File != "own.yaml" {
		t.Errorf("%+v", a)
	}
	for _, other := range []string{`{exec: [/bin/judge]}`, `{http: "http://a.example.com"}`, `{unix: /run/other}`} {
		p := layered(t, above, `own: {network: {authorizer: `+other+`}}`)
		if p.Authorizer() != nil || !warned(p, "own.yaml:1", "network.authorizer", "ceiling.yaml:1") {
			t.Errorf("%s decides: %+v", other, p.Warnings())
		}
		if d := p.DecideNet(mustTarget("a.example.com:443")); d.Allowed() || d.Ask {
			t.Errorf("nobody is left to ask: %+v", d)
		}
	}
	if p := layered(t, above, `own: {require: {tier: rootless}}`); p.Authorizer() != nil {
		t.Error("a ceiling brings in who could allow more")
	}
	if p := layered(t, `ceiling: {network: {strictAllowlist: true}}`, `own: {network: {authorizer: {unix: /run/judge}}}`); p.DecideNet(mustTarget("a.example.com:443")).Ask {
		t.Error("what is strict is asked about")
	}
}

func TestACeilingKeepsToEnforcing(t *testing.T) {
	p := layered(t, `ceiling: {mode: enforce}`, `own: {mode: audit}`)
	if len(p.Unbuilt()) != 0 || !warned(p, "own.yaml:1", "mode: audit", "ceiling.yaml:1") {
		t.Errorf("%+v %+v", p.Unbuilt(), p.Warnings())
	}
	if p := layered(t, `ceiling: {require: {tier: rootless}}`, `own: {mode: audit}`); len(p.Unbuilt()) != 1 || !p.Unbuilt()[0].Refuse {
		t.Errorf("%+v", p.Unbuilt())
	}
	if _, err := makeLayered(`ceiling: {mode: audit}`); err == nil || !strings.Contains(err.Error(), "narrows nothing") {
		t.Errorf("%v", err)
	}
}
