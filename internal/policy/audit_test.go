package policy

import (
	"testing"

	"github.com/sallyport/sallyport/internal/event"
)

func TestWhereTheRecordGoesIsRead(t *testing.T) {
	p := mustPolicy(t, testEnv, `audit: {textfile: /var/lib/a, otlp: "http://h:4318"}`, `audit: {textfile: /var/lib/b/, syslog: "tcp://h:601", log: /var/log/s}`)
	if got, want := p.Audit(), (AuditRules{Log: "/var/log/s", OTLP: "http://h:4318", Syslog: "tcp://h:601", Textfile: "/var/lib/b/"}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if len(p.Unbuilt()) > 0 {
		t.Errorf("unbuilt: %+v", p.Unbuilt())
	}
}

func TestTargetsOfTheRecordThatAreNoneAreErrors(t *testing.T) {
	for _, text := range []string{`audit: {textfile: x}`, `audit: {log: ./x}`, `audit: {otlp: h:4318}`, `audit: {otlp: "ftp://h"}`,
		`audit: {otlp: "http://u:p@h"}`, `audit: {syslog: "udp://h:514"}`, `audit: {syslog: "tcp://h"}`, `audit: {syslog: 1}`, `audit: {other: x}`} {
		if _, err := Parse(Source{Name: "p.yaml", Data: []byte(text)}); err == nil {
			t.Errorf("%s is taken", text)
		}
	}
}

func TestThePayloadCannotForgeTheNumbers(t *testing.T) {
	p := mustPolicy(t, testEnv, `{audit: {textfile: /srv/work/metrics, log: /srv/work/log}, filesystem: {allowWrite: [/srv/work]}}`)
	for _, path := range []string{"/srv/work/metrics/sallyport-1.prom", "/srv/work/log/x.jsonl"} {
		if d := p.DecideFile(event.FileWrite, path); d.Allowed() {
			t.Errorf("%s may be written", path)
		}
	}
	if d := p.DecideFile(event.FileRead, "/srv/work/log/x.jsonl"); d.Allowed() {
		t.Error("the log may be read")
	}
	if d := p.DecideFile(event.FileWrite, "/srv/work/x"); !d.Allowed() {
		t.Errorf("the rest may not: %+v", d)
	}
}
