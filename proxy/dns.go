package proxy

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/policy"
)

// dnsTTL is short, since an address means nothing outside this sandbox.
const dnsTTL = 1

// errNoReply is a packet that must not be answered: it is no query.
var errNoReply = errors.New("not a query")

// answerDNS gives the reply to one message. Nothing is asked outside: an
// allowed name gets an address that stands for it.
func (p *Proxy) answerDNS(query []byte, ends Endpoints) ([]byte, error) {
	p.count.dnsQueries.Add(1)
	var m dnsmessage.Parser
	h, err := m.Start(query)
	if err != nil || h.Response {
		p.denyMalformed(ends, "not a query")
		return nil, errNoReply
	}
	reply := dnsReply{Header: dnsmessage.Header{
		ID: h.ID, Response: true, OpCode: h.OpCode,
		RecursionDesired: h.RecursionDesired, RecursionAvailable: true,
	}}
	if h.OpCode != 0 {
		p.denyMalformed(ends, fmt.Sprintf("operation %d, not a query", h.OpCode))
		return reply.fail(dnsmessage.RCodeNotImplemented)
	}
	qs, err := m.AllQuestions()
	if err != nil || len(qs) != 1 {
		p.denyMalformed(ends, fmt.Sprintf("%d whole questions, not one", len(qs)))
		return reply.fail(dnsmessage.RCodeFormatError)
	}
	reply.q = &qs[0]
	b, err := p.answerQuestion(&reply, ends)
	if reply.denied {
		p.count.dnsDenied.Add(1)
	} else {
		p.count.dnsAllowed.Add(1)
	}
	return b, err
}

// dnsReply is a reply being made.
type dnsReply struct {
	dnsmessage.Header
	q      *dnsmessage.Question
	denied bool
}

// fail gives a reply without answers.
func (r *dnsReply) fail(code dnsmessage.RCode) ([]byte, error) {
	r.RCode = code
	return r.build(nil)
}

// build packs the reply, with the answer that add makes.
func (r *dnsReply) build(add func(*dnsmessage.Builder, dnsmessage.ResourceHeader) error) ([]byte, error) {
	b := dnsmessage.NewBuilder(make([]byte, 0, 512), r.Header)
	b.EnableCompression()
	if r.q != nil {
		if err := b.StartQuestions(); err != nil {
			return nil, err
		}
		if err := b.Question(*r.q); err != nil {
			return nil, err
		}
	}
	if add != nil {
		if err := b.StartAnswers(); err != nil {
			return nil, err
		}
		head := dnsmessage.ResourceHeader{Name: r.q.Name, Class: dnsmessage.ClassINET, TTL: dnsTTL}
		if err := add(&b, head); err != nil {
			return nil, err
		}
	}
	return b.Finish()
}

// answerQuestion decides one question.
func (p *Proxy) answerQuestion(r *dnsReply, ends Endpoints) ([]byte, error) {
	name := r.q.Name.String()
	if r.q.Type == dnsmessage.TypePTR && r.q.Class == dnsmessage.ClassINET && isReverse(name) {
		return p.answerPTR(r, name)
	}
	host, err := policy.ParseHost(name)
	if err != nil {
		p.denyDNS(r, ends, builtin("dns-name", event.NameInvalid), err.Error())
		return r.fail(dnsmessage.RCodeNameError)
	}
	d := p.decideName(host)
	if !d.Allowed() && !d.Ask {
		p.denyDNS(r, ends, d, d.Text)
		return r.fail(dnsmessage.RCodeNameError)
	}
	if r.q.Class != dnsmessage.ClassINET {
		p.denyDNS(r, ends, builtin("dns-type", event.DNSType), fmt.Sprintf("class %d", r.q.Class))
		return r.fail(dnsmessage.RCodeRefused)
	}
	switch r.q.Type {
	case dnsmessage.TypeA:
		return p.answerA(r, host.Name, ends)
	case dnsmessage.TypeAAAA, dnsmessage.TypeHTTPS, dnsmessage.TypeSVCB:
		// Empty: everything goes by the one address of the A record, and without
		// the keys and hints that would hide names (ECH) or lead to UDP (h3).
		return r.fail(dnsmessage.RCodeSuccess)
	}
	p.denyDNS(r, ends, builtin("dns-type", event.DNSType), "query type "+typeName(r.q.Type))
	return r.fail(dnsmessage.RCodeRefused)
}

func (p *Proxy) decideName(h policy.Host) policy.Decision {
	if h.IsAddr() {
		return builtin("dns-name", event.AddressLiteral)
	}
	return p.cfg.Decider.DecideName(h)
}

func (p *Proxy) answerA(r *dnsReply, name string, ends Endpoints) ([]byte, error) {
	a, err := p.fakes.addr(name, p.cfg.Limits.MaxNames)
	if err != nil {
		p.denyDNS(r, ends, builtin("name-limit", event.LimitExceeded),
			fmt.Sprintf("more than %d names", p.cfg.Limits.MaxNames))
		return r.fail(dnsmessage.RCodeServerFailure)
	}
	return r.build(func(b *dnsmessage.Builder, h dnsmessage.ResourceHeader) error {
		return b.AResource(h, dnsmessage.AResource{A: a.As4()})
	})
}

// isReverse reports whether a name belongs to the reverse trees.
func isReverse(name string) bool {
	name = strings.ToLower(name)
	return strings.HasSuffix(name, ".in-addr.arpa.") || strings.HasSuffix(name, ".ip6.arpa.")
}

// answerPTR answers from the names that were given out. Other addresses have no
// name here; nothing is refused by that, and nothing leaves.
func (p *Proxy) answerPTR(r *dnsReply, name string) ([]byte, error) {
	labels := strings.Split(strings.TrimSuffix(strings.ToLower(name), ".in-addr.arpa."), ".")
	if len(labels) != 4 {
		return r.fail(dnsmessage.RCodeNameError)
	}
	labels[0], labels[1], labels[2], labels[3] = labels[3], labels[2], labels[1], labels[0]
	a, err := netip.ParseAddr(strings.Join(labels, "."))
	if err != nil {
		return r.fail(dnsmessage.RCodeNameError)
	}
	host, ok := p.fakes.name(a)
	if !ok {
		return r.fail(dnsmessage.RCodeNameError)
	}
	ptr, err := dnsmessage.NewName(host + ".")
	if err != nil {
		return r.fail(dnsmessage.RCodeServerFailure)
	}
	return r.build(func(b *dnsmessage.Builder, h dnsmessage.ResourceHeader) error {
		return b.PTRResource(h, dnsmessage.PTRResource{PTR: ptr})
	})
}

// denyMalformed records bytes that are no DNS query: somebody tried what there
// is behind port 53.
func (p *Proxy) denyMalformed(ends Endpoints, detail string) {
	p.count.dnsMalformed.Add(1)
	p.count.dnsDenied.Add(1)
	e := denial(event.LayerDNS, event.NetDNS, builtin("dns-malformed", event.RequestInvalid))
	e.Object = event.Object{Proto: ends.Proto}
	if ends.Origin.IsValid() {
		e.Object.Addr, e.Object.Port = ends.Origin.Addr().String(), ends.Origin.Port()
	}
	e.Detail = event.Text(detail)
	e.Process, e.Ancestors = p.cfg.ProcessOf(ends)
	p.emit(e)
}

// denyDNS records a refused look-up.
func (p *Proxy) denyDNS(r *dnsReply, ends Endpoints, d policy.Decision, detail string) {
	r.denied = true
	who := sync.OnceValues(func() (*event.Process, []event.Process) { return p.cfg.ProcessOf(ends) })
	if d.Reason != event.DNSType && p.twins.second(ends.Client, r.q, who) {
		return
	}
	e := denial(event.LayerDNS, event.NetDNS, d)
	name := r.q.Name.String()
	if len(name) > 1 {
		name = strings.TrimSuffix(name, ".")
	}
	e.Object = event.Object{Host: event.Text(name), Proto: ends.Proto}
	if ends.Origin.IsValid() {
		e.Object.Addr, e.Object.Port = ends.Origin.Addr().String(), ends.Origin.Port()
	}
	e.Detail = event.Text(clip(detail))
	e.Process, e.Ancestors = who()
	p.emit(e)
}

// typeName is a query type as people know it.
func typeName(t dnsmessage.Type) string {
	if t == dnsmessage.TypeALL {
		return "ANY"
	}
	s := strings.TrimPrefix(t.String(), "Type")
	if strings.Trim(s, "0123456789") == "" {
		return "TYPE" + s // RFC 3597
	}
	return s
}
