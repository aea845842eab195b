package export

import (
	"encoding/json"
	"fmt"
	"path"
	"time"

	"github.com/sallyport/sallyport/internal/event"
)

// ocsfVersion is of the Open Cybersecurity Schema Framework, https://schema.ocsf.io.
const ocsfVersion = "1.8.0"

// BodyMost is how long an event as OCSF may be where nobody wants it shorter.
const BodyMost = 256 << 10

// class is one of OCSF's, with the activity that an attempt was.
type class struct{ uid, activity int }

const (
	fileActivity     = 1001
	processActivity  = 1007
	detectionFinding = 2004
	networkActivity  = 4001
	otherActivity    = 99
)

// classOf says what an event is to OCSF. What is no attempt, or one on the
// boundary itself, is a finding.
func classOf(e *event.Event) class {
	if e.Reason == event.Tampered {
		return class{detectionFinding, 1}
	}
	switch e.Operation {
	case event.NetConnect, event.NetDNS, event.NetUDP, event.NetICMP, event.NetRaw, event.NetSocket, event.UnixConnect, event.GitPush:
		switch {
		case e.Verdict.Denied():
			return class{networkActivity, 5} // Refuse
		case e.Reason == event.Unreachable:
			return class{networkActivity, 4} // Fail
		}
		return class{networkActivity, 1} // Open
	case event.NetBind:
		return class{networkActivity, 7} // Listen
	case event.FileCreate:
		return class{fileActivity, 1}
	case event.FileRead:
		return class{fileActivity, 2}
	case event.FileWrite:
		return class{fileActivity, 3}
	case event.FileDelete:
		return class{fileActivity, 4}
	case event.FileRename:
		return class{fileActivity, 5}
	case event.FileMeta:
		return class{fileActivity, 6}
	case event.FileLink:
		return class{fileActivity, otherActivity}
	case event.FileExec:
		return class{processActivity, 1} // Launch
	case event.NSCreate, event.SysRefused, event.MemoryUse, event.ProcCreate, event.TimeUse:
		return class{processActivity, otherActivity}
	}
	return class{detectionFinding, 1}
}

type object = map[string]any

// mapper makes one event; text is cut to most bytes, and so many ancestors are
// taken along.
type mapper struct {
	most, ancestors int
	cut             bool
}

// OCSF gives an event as one line of JSON that is no longer than most. What has
// no room is left out: ancestors first, then the ends of long texts.
func OCSF(r *Record, most int) ([]byte, error) {
	for _, m := range []mapper{{64 << 10, 64, false}, {1024, 1, true}, {200, 0, true}, {40, 0, true}} {
		b, err := json.Marshal(m.event(r))
		if err != nil {
			return nil, fmt.Errorf("encode as OCSF: %w", err)
		}
		if len(b) <= most {
			return b, nil
		}
	}
	return nil, fmt.Errorf("encode as OCSF: longer than %d bytes", most)
}

func (m mapper) event(r *Record) object {
	e := &r.Event
	c := classOf(e)
	o := object{
		"class_uid": c.uid, "category_uid": c.uid / 1000, "activity_id": c.activity, "type_uid": c.uid*100 + c.activity,
		"time": millis(e.Last), "start_time": millis(e.First), "end_time": millis(e.Last), "count": e.Count,
		"severity_id": severityID(e), "message": m.text(event.Text(message(e))), "metadata": m.metadata(r),
		"device": object{"hostname": m.text(e.Host), "type_id": 0, "boot_uid": e.BootID},
		"unmapped": object{"sallyport": object{
			"verdict": e.Verdict, "layer": e.Layer, "operation": e.Operation, "reason": e.Reason, "errno": e.Errno,
			"sandbox": object{"id": e.Sandbox.ID, "name": m.text(e.Sandbox.Name), "tier": e.Sandbox.Tier, "policy_sha256": e.Sandbox.PolicySHA256},
			"object":  m.object(e.Object), "lost_since_last": e.LostSinceLast, "reported": e.Reported > 0,
		}},
	}
	action, disposition := outcomeOf(e)
	o["action_id"], o["disposition_id"] = action, disposition
	if e.Rule != "" {
		o["policy"] = object{"name": m.text(event.Text(e.Rule)), "uid": e.Sandbox.PolicySHA256}
	}
	if c.uid != detectionFinding {
		o["actor"] = m.actor(e)
		o["status_id"] = map[bool]int{true: 2, false: 1}[e.Verdict.Denied() || e.Reason == event.Unreachable]
		o["status_code"] = e.Reason.String()
	}
	switch c.uid {
	case networkActivity:
		o["dst_endpoint"] = m.endpoint(e.Object)
		o["connection_info"] = object{"direction_id": 2, "protocol_name": e.Object.Proto} // outbound
	case fileActivity:
		o["file"] = m.file(e.Object.Path)
		if e.Object.To != "" {
			o["file_result"] = m.file(e.Object.To)
		}
	case processActivity:
		o["process"] = m.target(e)
	case detectionFinding:
		o["finding_info"] = object{"uid": r.ID, "title": e.Operation.String() + ": " + e.Reason.String(), "desc": m.text(e.Detail), "created_time": millis(e.Time)}
		o["is_alert"] = e.Reason == event.Tampered
		o["status_id"] = 1
		o["evidences"] = []object{{"actor": m.actor(e)}}
	}
	return o
}

func (m mapper) metadata(r *Record) object {
	return object{"version": ocsfVersion, "uid": m.text(event.Text(r.ID)), "sequence": r.Seq, "logged_time": millis(r.Time), "is_truncated": m.cut,
		"profiles": []string{"host", "security_control"}, "event_code": r.Operation.String(),
		"product": object{"name": "sallyport", "vendor_name": "sallyport"}}
}

// message is for people.
func message(e *event.Event) string {
	s := fmt.Sprintf("%s %s: %s", e.Verdict, e.Operation, e.Reason)
	if e.Detail != "" {
		s += ": " + string(e.Detail)
	}
	return s
}

// severityID: Informational, Low, Medium, High.
func severityID(e *event.Event) int {
	switch {
	case e.Reason == event.Tampered:
		return 4
	case e.LostSinceLast > 0, e.Verdict.Denied() && (e.Reason == event.PathHidden || e.Reason == event.AddressDenied):
		return 3
	case e.Verdict.Denied() && e.Reason != event.System:
		return 2
	}
	return 1
}

// outcomeOf gives action_id and disposition_id.
func outcomeOf(e *event.Event) (action, disposition int) {
	switch {
	case e.Verdict.Denied():
		return 2, 2 // Denied, Blocked
	case e.Verdict == event.Audit:
		return 3, 17 // Observed, Logged
	}
	return 1, 1 // Allowed
}

func (m mapper) actor(e *event.Event) object {
	if e.Process == nil {
		return object{"app_name": "unknown"}
	}
	p := m.process(e.Process)
	at := p
	for i := range e.Ancestors[:min(len(e.Ancestors), m.ancestors)] {
		parent := m.process(&e.Ancestors[i])
		at["parent_process"] = parent
		at = parent
	}
	return object{"process": p}
}

func (m mapper) process(p *event.Process) object {
	o := object{"pid": p.PID, "uid": p.ExecID, "name": m.text(p.Comm), "user": object{"uid": fmt.Sprint(p.UID)},
		"working_directory": m.text(p.Cwd)}
	if p.Exe != "" {
		o["file"], o["path"] = m.file(p.Exe), m.text(p.Exe)
	}
	var line event.Text
	for i, a := range p.Argv {
		if i > 0 {
			line += " "
		}
		line += a
	}
	if line != "" {
		o["cmd_line"] = m.text(line)
	}
	return o
}

// target is the process of a process's activity: the one that was to be started,
// in the place of the actor, or the actor itself.
func (m mapper) target(e *event.Event) object {
	o := object{"uid": "unknown"}
	if e.Process != nil {
		o = m.process(e.Process)
	}
	if e.Operation == event.FileExec && e.Object.Path != "" {
		o["file"], o["path"] = m.file(e.Object.Path), m.text(e.Object.Path)
		delete(o, "cmd_line")
	}
	return o
}

func (m mapper) file(p event.Text) object {
	name := path.Base(string(p))
	if p == "" {
		name, p = "unknown", "unknown"
	}
	return object{"path": m.text(p), "name": m.text(event.Text(name)), "type_id": 0}
}

func (m mapper) endpoint(o event.Object) object {
	out := object{}
	for key, v := range map[string]string{"hostname": m.text(o.Host), "ip": o.Addr, "name": m.text(o.Path)} {
		if v != "" {
			out[key] = v
		}
	}
	if len(out) == 0 {
		out["name"] = "unknown"
		if o.Socket != "" {
			out["name"] = o.Socket
		}
	}
	if o.Port > 0 {
		out["port"] = o.Port
	}
	return out
}

// object is the event's own, cut.
func (m mapper) object(o event.Object) event.Object {
	for _, t := range []*event.Text{&o.Path, &o.Host, &o.Ref, &o.To} {
		if len(*t) > m.most {
			*t, o.Truncated = (*t)[:m.most], true
		}
	}
	return o
}

// text is what others get of text that an attacker may have chosen.
func (m mapper) text(t event.Text) string {
	if len(t) > m.most {
		t = t[:m.most]
	}
	b, _ := t.MarshalText() // never fails
	return string(b)
}

func millis(t time.Time) int64 { return t.UnixMilli() }
