package sandbox

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/plan"
)

// rule is what one nft rule does, in order.
type rule []expr.Any

const nftHint = "the kernel lacks nf_tables or one of its parts; as root: modprobe -a nf_tables nft_tproxy nft_reject_inet nfnetlink_log"

// loadRules installs the rules of plan.Network.NFTText in one transaction.
func loadRules(n plan.Network, rules int) error {
	batch, acks, err := ruleMessages(n)
	if err != nil {
		return err
	}
	if err := exchange(rules, batch, func(uint32) string { return "load nftables rules" }, acks); err != nil {
		return &Error{Err: err, Hint: nftHint}
	}
	return nil
}

// ruleMessages gives the transaction as it is sent, and how many of its messages
// are to be acknowledged. The library sends on no socket but its own; it only
// has a function to be told what it would send.
func ruleMessages(n plan.Network) (batch []byte, acks int, err error) {
	conn, _ := nftables.New() // opens nothing yet
	table := conn.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: "sallyport"})
	addChain(conn, prerouting(table), preroutingRules(n))
	addChain(conn, output(table), outputRules(n))
	told := errors.New("told")
	conn.TestDial = func(messages []netlink.Message) ([]netlink.Message, error) {
		for _, m := range messages {
			m.Header.Flags &^= netlink.Echo // what was added is known
			b, err := m.MarshalBinary()
			if err != nil {
				return nil, err
			}
			batch = append(batch, b...)
			if m.Header.Flags&netlink.Acknowledge != 0 {
				acks++
			}
		}
		return nil, told
	}
	if err := conn.Flush(); !errors.Is(err, told) {
		return nil, 0, fmt.Errorf("encode nftables rules: %w", err)
	}
	return batch, acks, nil
}

func prerouting(table *nftables.Table) *nftables.Chain {
	accept := nftables.ChainPolicyAccept
	return &nftables.Chain{
		Name: "prerouting", Table: table, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityMangle, Policy: &accept,
	}
}

func output(table *nftables.Table) *nftables.Chain {
	drop := nftables.ChainPolicyDrop
	return &nftables.Chain{
		Name: "output", Table: table, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityFilter, Policy: &drop,
	}
}

func addChain(conn *nftables.Conn, c *nftables.Chain, rules []rule) {
	conn.AddChain(c)
	for _, r := range rules {
		conn.AddRule(&nftables.Rule{Table: c.Table, Chain: c, Exprs: r})
	}
}

// preroutingRules and outputRules follow NFTText line by line; the reasons
// are given there.
func preroutingRules(n plan.Network) []rule {
	rules := []rule{
		join(toLoopback4(), accept()),
		join(toLoopback6(), accept()),
		join(l4proto(unix.IPPROTO_TCP), destPort(53), accept()),
		join(nfproto(unix.NFPROTO_IPV4), l4proto(unix.IPPROTO_TCP), tproxy(n.Proxy4), accept()),
	}
	if n.Proxy6.IsValid() {
		rules = append(rules,
			join(nfproto(unix.NFPROTO_IPV6), l4proto(unix.IPPROTO_TCP), tproxy(n.Proxy6), accept()))
	}
	const syn, finSynRstAck = 0x02, 0x17
	return append(rules, join(
		l4proto(unix.IPPROTO_TCP),
		load(expr.PayloadBaseTransportHeader, 13, 1), mask(finSynRstAck), cmp(expr.CmpOpEq, syn),
		record(n, plan.RuleProxyOnly), verdict(expr.VerdictDrop),
	))
}

func outputRules(n plan.Network) []rule {
	var rules []rule
	for _, t := range []byte{3, 11, 12} {
		rules = append(rules, join(nfproto(unix.NFPROTO_IPV4), l4proto(unix.IPPROTO_ICMP),
			load(expr.PayloadBaseTransportHeader, 0, 1), cmp(expr.CmpOpEq, t), accept()))
	}
	udp53 := join(l4proto(unix.IPPROTO_UDP), destPort(53))
	firstGroup4 := netip.MustParseAddr("224.0.0.0").AsSlice()
	firstGroup6 := netip.MustParseAddr("ff00::").AsSlice()
	return append(rules,
		join(nfproto(unix.NFPROTO_IPV6), l4proto(unix.IPPROTO_ICMPV6),
			load(expr.PayloadBaseTransportHeader, 0, 1), cmp(expr.CmpOpLt, 128), accept()),
		join(nfproto(unix.NFPROTO_IPV4),
			load(expr.PayloadBaseNetworkHeader, 0, 1), mask(0x0f), cmp(expr.CmpOpNeq, 5),
			record(n, plan.RuleNoIPOptions), reject()),
		join(nfproto(unix.NFPROTO_IPV6), routingHeader(), cmp(expr.CmpOpEq, 1),
			record(n, plan.RuleNoIPOptions), reject()),
		join(meta(expr.MetaKeyMARK), cmp(expr.CmpOpEq, binary.NativeEndian.AppendUint32(nil, n.Mark)...), accept()),
		join(toLoopback4(), accept()),
		join(toLoopback6(), accept()),
		join(l4proto(unix.IPPROTO_TCP), accept()),
		join(nfproto(unix.NFPROTO_IPV4), destAddr4(4), cmp(expr.CmpOpLt, firstGroup4...), udp53, accept()),
		join(nfproto(unix.NFPROTO_IPV6), destAddr6(), cmp(expr.CmpOpLt, firstGroup6...), udp53, accept()),
		join(record(n, plan.RuleTCPAndDNSOnly), reject()),
	)
}

func join(parts ...rule) rule {
	var r rule
	for _, p := range parts {
		r = append(r, p...)
	}
	return r
}

// Every value goes through register 1; only TPROXY needs a second.

func meta(key expr.MetaKey) rule { return rule{&expr.Meta{Key: key, Register: 1}} }

func load(base expr.PayloadBase, offset, length uint32) rule {
	return rule{&expr.Payload{DestRegister: 1, Base: base, Offset: offset, Len: length}}
}

func mask(m byte) rule {
	return rule{&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{m}, Xor: []byte{0}}}
}

func cmp(op expr.CmpOp, data ...byte) rule {
	return rule{&expr.Cmp{Op: op, Register: 1, Data: data}}
}

func verdict(k expr.VerdictKind) rule { return rule{&expr.Verdict{Kind: k}} }
func accept() rule                    { return verdict(expr.VerdictAccept) }

func nfproto(family byte) rule { return join(meta(expr.MetaKeyNFPROTO), cmp(expr.CmpOpEq, family)) }
func l4proto(proto byte) rule  { return join(meta(expr.MetaKeyL4PROTO), cmp(expr.CmpOpEq, proto)) }

func destPort(p uint16) rule {
	return join(load(expr.PayloadBaseTransportHeader, 2, 2), cmp(expr.CmpOpEq, binaryutil.BigEndian.PutUint16(p)...))
}

func destAddr4(length uint32) rule { return load(expr.PayloadBaseNetworkHeader, 16, length) }
func destAddr6() rule              { return load(expr.PayloadBaseNetworkHeader, 24, 16) }

func toLoopback4() rule {
	return join(nfproto(unix.NFPROTO_IPV4), destAddr4(1), cmp(expr.CmpOpEq, 127))
}

func toLoopback6() rule {
	return join(nfproto(unix.NFPROTO_IPV6), destAddr6(), cmp(expr.CmpOpEq, netip.IPv6Loopback().AsSlice()...))
}

// routingHeader puts 1 into the register if the packet has an IPv6 routing
// header of any type.
func routingHeader() rule {
	return rule{&expr.Exthdr{
		DestRegister: 1, Type: unix.IPPROTO_ROUTING, Len: 1,
		Op: expr.ExthdrOpIpv6, Flags: unix.NFT_EXTHDR_F_PRESENT,
	}}
}

func tproxy(to netip.AddrPort) rule {
	family := byte(unix.NFPROTO_IPV4)
	if to.Addr().Is6() {
		family = unix.NFPROTO_IPV6
	}
	return rule{
		&expr.Immediate{Register: 1, Data: to.Addr().AsSlice()},
		&expr.Immediate{Register: 2, Data: binaryutil.BigEndian.PutUint16(to.Port())},
		&expr.TProxy{Family: family, TableFamily: byte(nftables.TableFamilyINet), RegAddr: 1, RegPort: 2},
	}
}

// record counts the packet and sends it to the NFLOG group under the name of
// what refuses it.
func record(n plan.Network, name string) rule {
	return rule{
		&expr.Counter{},
		&expr.Log{Key: 1<<unix.NFTA_LOG_GROUP | 1<<unix.NFTA_LOG_PREFIX, Group: n.NFLOGGroup, Data: []byte(name)},
	}
}

func reject() rule {
	return rule{&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_ADMIN_PROHIBITED}}
}
