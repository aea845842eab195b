package policy

// AuditRules say where the record goes. Empty: where it goes by itself, and
// nowhere else.
type AuditRules struct {
	Log      string // a directory
	OTLP     string // a collector's URL
	Syslog   string // tcp://HOST:PORT
	Textfile string // a directory
}

var (
	otlpURL   = pattern(`^https?://[^/?#@\s]+(/[^?#\s]*)?$`)
	syslogURL = pattern(`^tcp://([^/?#@:\s]+|\[[0-9a-fA-F:]+\]):[0-9]{1,5}$`)
)

// auditKeys reads what is below audit.
func auditKeys() shape {
	set := func(form *lazyRegexp, want string, where func(*AuditRules) *string) shape {
		return matchingText(form, want, func(f *File, s string) { *where(&f.audit) = s })
	}
	return object(map[string]shape{
		"log":      set(absolute, "an absolute path", func(a *AuditRules) *string { return &a.Log }),
		"textfile": set(absolute, "an absolute path", func(a *AuditRules) *string { return &a.Textfile }),
		"otlp":     set(otlpURL, "a URL such as http://127.0.0.1:4318", func(a *AuditRules) *string { return &a.OTLP }),
		"syslog":   set(syslogURL, "a URL such as tcp://127.0.0.1:601", func(a *AuditRules) *string { return &a.Syslog }),
	})
}

// Audit says where the record goes.
func (p *Policy) Audit() AuditRules { return p.audit }

// mergeAudit takes the last value of each.
func mergeAudit(files []*File) (a AuditRules) {
	for _, f := range files {
		for _, v := range []struct {
			to   *string
			from string
		}{{&a.Log, f.audit.Log}, {&a.OTLP, f.audit.OTLP}, {&a.Syslog, f.audit.Syslog}, {&a.Textfile, f.audit.Textfile}} {
			if v.from != "" {
				*v.to = v.from
			}
		}
	}
	return a
}
