package event

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"
)

func TestCountsAreWhatTheLinesAddUpTo(t *testing.T) {
	var c Counts
	for _, e := range []Event{
		{Layer: LayerProxy, Operation: NetConnect, Reason: NotAllowed, Count: 3},
		{Layer: LayerProxy, Operation: NetConnect, Reason: NotAllowed}, // no count is one
		{Layer: LayerTrace, Operation: FileRead, Reason: System, Count: 5},
		{Verdict: Allow, Layer: LayerProxy, Operation: NetConnect, Reason: RuleAllowed, Count: 7, LostSinceLast: 2},
		{Verdict: AskDenied, Layer: LayerProxy, Operation: NetConnect, Reason: Unanswered, Count: 1},
		{Verdict: Audit, Layer: LayerSupervisor, Reason: System, Rule: LossRule(LossRate), Count: 1, LostSinceLast: 11},
		{Verdict: Audit, Layer: LayerSupervisor, Reason: System, Rule: "builtin:elsewhere", Count: 1, LostSinceLast: 4},
	} {
		c.Add(&e)
	}
	want := Counts{Events: 7,
		Decisions: map[Decision]uint64{{Deny, NetConnect}: 4, {Deny, FileRead}: 5, {Allow, NetConnect}: 7,
			{AskDenied, NetConnect}: 1, {Audit, OpUnknown}: 2},
		Denied: map[Kind]uint64{{LayerProxy, NetConnect, NotAllowed}: 4, {LayerProxy, NetConnect, Unanswered}: 1},
		System: map[Operation]uint64{FileRead: 5},
		Lost:   map[Loss]uint64{LossLog: 6, LossRate: 11},
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("counts\n%+v, want\n%+v", c, want)
	}
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var back Counts
	if err := json.Unmarshal(b, &back); err != nil || !reflect.DeepEqual(back, want) {
		t.Errorf("read back %+v, %v", back, err)
	}
	back.Merge(c)
	if back.Events != 14 || back.Denied[Kind{LayerProxy, NetConnect, NotAllowed}] != 8 || back.Lost[LossRate] != 22 {
		t.Errorf("merged %+v", back)
	}
	if c.Events != 7 || c.Lost[LossRate] != 11 {
		t.Errorf("merging changed the other: %+v", c)
	}
}

func TestMetadataServicesAreKnownByAddressAndName(t *testing.T) {
	for _, tt := range []struct {
		name string
		o    Object
		want uint64
	}{
		{"address", Object{Addr: "169.254.169.254", Port: 80}, 1},
		{"as a host", Object{Host: "169.254.169.254"}, 1},
		{"a name that leads there", Object{Host: "evil.example", Addr: "169.254.169.254"}, 1},
		{"Google's name", Object{Host: "metadata.google.internal."}, 1},
		{"another address", Object{Addr: "169.254.169.25"}, 0},
		{"another name", Object{Host: "metadata.google.internal.example"}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var c Counts
			c.Add(&Event{Layer: LayerProxy, Operation: NetConnect, Reason: AddressDenied, Object: tt.o, Count: 1})
			if c.Metadata != tt.want {
				t.Errorf("%d, want %d", c.Metadata, tt.want)
			}
			c.Add(&Event{Verdict: Allow, Layer: LayerProxy, Operation: NetConnect, Reason: RuleAllowed, Object: tt.o, Count: 1})
			if c.Metadata != tt.want {
				t.Error("what was allowed is counted, too")
			}
		})
	}
}

func TestKindsAreBoundedAndNothingIsLostByIt(t *testing.T) {
	var c Counts
	n := uint64(0)
	for l := range 12 {
		for o := range 25 {
			for r := range 30 {
				c.Add(&Event{Layer: Layer(l), Operation: Operation(o), Reason: Reason(r), Count: 1})
				n++
			}
		}
	}
	if len(c.Denied) > maxKinds+len(layerNames) {
		t.Errorf("%d kinds", len(c.Denied))
	}
	var sum uint64
	for k, v := range c.Denied {
		sum += v
		if _, err := k.MarshalText(); err != nil {
			t.Errorf("%+v: %v", k, err)
		}
	}
	for _, v := range c.System {
		sum += v
	}
	if sum != n {
		t.Errorf("%d of %d denials are counted", sum, n)
	}
}

func TestKeysThatNobodyWroteAreRefused(t *testing.T) {
	for _, s := range []string{"", "proxy", "proxy net.connect", "proxy net.connect not-allowed x", "x net.connect not-allowed", "proxy  not-allowed"} {
		if err := new(Kind).UnmarshalText([]byte(s)); err == nil {
			t.Errorf("%q is a kind", s)
		}
	}
	if err := new(Decision).UnmarshalText([]byte("deny nothing")); err == nil {
		t.Error("a decision on nothing")
	}
	if LossOf("rate") != LossRate || LossOf("a place of one's own") != LossOther {
		t.Error("places of losses")
	}
}

func TestTrafficAddsUpByDifferences(t *testing.T) {
	var now, before, sum Traffic
	step := func(f func(*Traffic)) {
		f(&now)
		sum.Add(now.Since(before))
		before = now
	}
	step(func(t *Traffic) { t.BytesIn, t.Open = 10, 3 })
	step(func(t *Traffic) {
		t.BytesOut, t.Open, t.Upstream = 5, 1, map[Upstream]uint64{UpstreamTimeout: 2}
		t.Decisions.Observe(70 * time.Microsecond)
	})
	step(func(t *Traffic) {
		t.BytesIn, t.Upstream = 30, map[Upstream]uint64{UpstreamTimeout: 3, UpstreamName: 1}
		t.Decisions.Observe(time.Hour) // in no bucket
	})
	if sum.BytesIn != now.BytesIn || sum.BytesOut != now.BytesOut || sum.Open != now.Open || sum.Decisions != now.Decisions ||
		!reflect.DeepEqual(sum.Upstream, now.Upstream) {
		t.Errorf("sum of differences %+v, want %+v", sum, now)
	}
	if sum.Decisions.Count != 2 || sum.Decisions.Buckets[1] != 1 {
		t.Errorf("decisions %+v", sum.Decisions)
	}
}

func TestReportedTrafficIsBounded(t *testing.T) {
	in := Traffic{Open: -5, BytesIn: 1 << 63, Upstream: map[Upstream]uint64{200: 1, UpstreamName: 1 << 63},
		Starts: map[Start]uint64{Started: 9}, Decisions: Durations{Count: 1, Nanos: 1 << 63}}
	for i := range in.Decisions.Buckets {
		in.Decisions.Buckets[i] = 1 << 60
	}
	var sum Traffic
	for range 1000 {
		before := sum.BytesIn
		sum.Add(in.Bounded())
		if sum.BytesIn < before {
			t.Fatal("a counter went back")
		}
	}
	in.Open = 1 << 62
	if o := in.Bounded().Open; o != 1<<20 {
		t.Errorf("%d open connections", o)
	}
	if len(sum.Upstream) != 1 || len(sum.Starts) != 0 || sum.Open != 0 {
		t.Errorf("took %+v", sum)
	}
	var n uint64
	for _, b := range sum.Decisions.Buckets {
		n += b
	}
	if n > sum.Decisions.Count {
		t.Errorf("%d of %d decisions are in buckets", n, sum.Decisions.Count)
	}
}
