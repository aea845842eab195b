package policy

import (
	"github.com/goccy/go-yaml/ast"

	"github.com/sallyport/sallyport/internal/event"
)

func network() shape {
	return object(map[string]shape{
		"allowedDomains": hostList(entryAllow, func(f *File) **[]hostEntry { return &f.allowed }),
		"deniedDomains":  hostList(entryDeny, func(f *File) **[]hostEntry { return &f.denied }),
		"deniedResolvedAddresses": hostList(entryAddress,
			func(f *File) **[]hostEntry { return &f.resolved }),
		"deniedDomainReasons":     record(denialReason),
		"strictAllowlist":         flag(func(f *File, b bool, _ Rule) { f.strict = &b }),
		"allowUnixSockets":        pathList(func(f *File) **[]pathEntry { return &f.unixSockets }),
		"allowAllUnixSockets":     flag(func(f *File, b bool, _ Rule) { f.allUnix = &b }),
		"allowLocalBinding":       boolean,
		"allowMachLookup":         list(machService),
		"httpProxyPort":           integer(1, 65535, nil),
		"socksProxyPort":          integer(1, 65535, nil),
		"allowPlaintextHeaderSet": boolean,
		"stripResponseHeaders":    list(anyText),
		"refuseOpaqueTunnels":     boolean,
		"requireHostMatch":        boolean,
		"ambiguousRequestTarget":  choice(ambiguousTarget, "refuse", "asSpelled", "normalize"),
		"mitmProxy": object(map[string]shape{
			"socketPath": anyText, "domains": list(host)}),
		"parentProxy": parentProxy,
		"tlsTerminate": object(map[string]shape{
			"caCertPath": anyText, "caKeyPath": anyText, "excludeDomains": list(host),
			"extraCaCertPaths": list(anyText), "maxTunnels": integer(1, 65536, nil),
			"handshakeTimeoutMs": integer(100, 600000, nil)}),
		"rules":      list(netRule),
		"authorizer": authorizer,
	})
}

// ambiguousTarget: the proxy refuses ambiguous requests, whatever is asked.
func ambiguousTarget(f *File, word string, _ Rule) {
	f.off["network.ambiguousRequestTarget"] = word == "refuse"
}

func hostList(kind entryKind, where func(*File) **[]hostEntry) shape {
	return func(w *walker, n ast.Node) {
		if seq, ok := n.(*ast.SequenceNode); ok {
			room := make([]hostEntry, 0, w.entries(seq))
			*where(w.file) = &room
		}
		list(func(w *walker, n ast.Node) {
			if e, ok := w.hostEntry(n, kind); ok {
				dst := *where(w.file)
				*dst = append(*dst, e)
			}
		})(w, n)
	}
}

func (w *walker) hostEntry(n ast.Node, kind entryKind) (hostEntry, bool) {
	s, ok := w.text(n)
	if !ok {
		return hostEntry{}, false
	}
	e, err := parseHostEntry(s, kind)
	if err != nil {
		w.fail(n, hintOf(err), "%v", err)
		return hostEntry{}, false
	}
	e.rule = w.rule(n)
	return e, true
}

// host takes a host pattern whose list has no effect yet.
func host(w *walker, n ast.Node) { w.hostEntry(n, entryDeny) }

func denialReason(w *walker, key string, kn, v ast.Node) {
	text, ok := w.text(v)
	if !ok {
		return
	}
	e, err := parseHostEntry(key, entryDeny)
	if err != nil {
		w.fail(kn, hintOf(err), "%v", err)
		return
	}
	w.file.reasons[e.canonical()] = reasonText{text: text, entry: key, rule: w.rule(kn)}
}

// netRule takes {host, port, method, path, noSNI, upgrade}.
func netRule(w *walker, n ast.Node) {
	var e hostEntry
	noSNI, upgrade, before := false, false, len(w.errs)
	allows := func(b *bool) shape {
		return choice(func(_ *File, word string, _ Rule) { *b = word == "allow" }, "allow", "deny")
	}
	object(map[string]shape{
		"host":   func(w *walker, n ast.Node) { e, _ = w.hostEntry(n, entryAllow) },
		"port":   integer(1, 65535, func(_ *File, p int, _ Rule) { e.port = uint16(p) }),
		"method": anyText, "path": anyText,
		"noSNI": allows(&noSNI), "upgrade": allows(&upgrade),
	})(w, n)
	if len(w.errs) > before {
		return
	}
	if e.kind == hostNone {
		w.fail(n, "", "a rule needs a host")
		return
	}
	e.rule = w.rule(n)
	if noSNI {
		w.file.noSNI = append(w.file.noSNI, e)
	}
	if upgrade {
		w.file.upgrades = append(w.file.upgrades, e)
	}
}

func setTier(f *File, word string, rule Rule) {
	tiers := map[string]event.Tier{"rootless": event.TierRootless, "trace": event.TierTrace,
		"lsm": event.TierLSM}
	f.require.Tier, f.require.TierRule = tiers[word], rule
}

func git() shape {
	ours := list(object(map[string]shape{
		"repo": anyText, "fetch": boolean,
		"push": object(map[string]shape{
			"refs": list(anyText), "branch": oneOf("current"), "create": boolean,
			"update": boolean, "force": boolean, "delete": boolean, "tags": boolean}),
		"credential": object(map[string]shape{
			"env": anyText, "file": anyText, "command": list(anyText), "gh": boolean,
			"helper": boolean, "keyring": anyText}),
	}))
	shared := object(map[string]shape{"safeDirectories": list(func(w *walker, n ast.Node) {
		before := len(w.errs)
		checked(checkPath)(w, n)
		if s, ok := n.(*ast.StringNode); ok && len(w.errs) == before {
			w.file.safeDirs = append(w.file.safeDirs, pathEntry{path: s.Value, literal: true, rule: w.rule(n)})
		}
	})})
	return func(w *walker, n ast.Node) {
		if w.eitherSketch(ours, shared) {
			return
		}
		if seq, ok := n.(*ast.SequenceNode); ok {
			if len(seq.Values) > 0 {
				w.file.keys["git[]"] = w.rule(n)
			}
			ours(w, n)
			return
		}
		shared(w, n)
	}
}

func windows() shape {
	guid := matching(windowsID, "a GUID")
	return object(map[string]shape{
		"backend": oneOf("mxc", "srt-win"), "sandboxUser": anyText, "sublayerGuid": guid,
		"wfpSublayerGuid": guid, "proxyPortRange": list(integer(1, 65535, nil)),
		"srtWin": object(map[string]shape{"path": anyText}),
	})
}
