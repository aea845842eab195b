//go:build unix

package export

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/coreos/go-systemd/v22/journal"

	"github.com/sallyport/sallyport/internal/audit"
	"github.com/sallyport/sallyport/internal/event"
)

type journalSender struct{}

// NewJournal gives a Sender to the journal of systemd on this machine, with
// fields of their own.
func NewJournal() (Sender, error) {
	if !journal.Enabled() {
		return nil, errors.New("export to the journal: there is no /run/systemd/journal/socket")
	}
	return journalSender{}, nil
}

func (journalSender) Send(_ context.Context, list []Record) error {
	for i := range list {
		fields, err := journalFields(&list[i])
		if err != nil {
			return fmt.Errorf("%w: %w", ErrRefused, err)
		}
		if err := journal.Send(audit.Format(list[i].Event, nil), priority(&list[i].Event), fields); err != nil {
			return fmt.Errorf("send to the journal: %w", err)
		}
	}
	return nil
}

func priority(e *event.Event) journal.Priority {
	switch {
	case e.Reason == event.Tampered:
		return journal.PriErr
	case e.Verdict.Denied() && e.Reason != event.System, e.LostSinceLast > 0:
		return journal.PriWarning
	}
	return journal.PriInfo
}

// journalFields are what can be asked for: journalctl SALLYPORT_VERDICT=deny.
func journalFields(r *Record) (map[string]string, error) {
	ocsf, err := OCSF(r, BodyMost)
	if err != nil {
		return nil, err
	}
	f := map[string]string{
		"SYSLOG_IDENTIFIER": "sallyport", "SYSLOG_FACILITY": strconv.Itoa(facility),
		"SALLYPORT_ID": r.ID, "SALLYPORT_VERDICT": r.Verdict.String(), "SALLYPORT_LAYER": r.Layer.String(),
		"SALLYPORT_OPERATION": r.Operation.String(), "SALLYPORT_REASON": r.Reason.String(), "SALLYPORT_RULE": r.Rule,
		"SALLYPORT_SANDBOX": r.Sandbox.ID, "SALLYPORT_SANDBOX_NAME": string(r.Sandbox.Name), "SALLYPORT_TIER": r.Sandbox.Tier.String(),
		"SALLYPORT_PATH": string(r.Object.Path), "SALLYPORT_HOST": string(r.Object.Host), "SALLYPORT_ADDR": r.Object.Addr,
		"SALLYPORT_COUNT": strconv.FormatUint(r.Count, 10), "SALLYPORT_LOST": strconv.FormatUint(r.LostSinceLast, 10),
		"SALLYPORT_OCSF": string(ocsf),
	}
	if r.Object.Port > 0 {
		f["SALLYPORT_PORT"] = strconv.Itoa(int(r.Object.Port))
	}
	if r.Process != nil {
		f["SALLYPORT_PID"], f["SALLYPORT_EXE"] = strconv.Itoa(r.Process.PID), string(r.Process.Exe)
	}
	for k, v := range f {
		if v == "" {
			delete(f, k)
		}
	}
	return f, nil
}
