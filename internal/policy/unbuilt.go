package policy

import (
	"cmp"
	"slices"
	"strings"
)

// Unbuilt is a key that was read but has no effect yet.
type Unbuilt struct {
	Key  string // "network.parentProxy"
	Rule Rule
	// Refuse reports that a run without it would be less safe, or other, than
	// what was asked for; otherwise it can merely do less.
	Refuse bool
	Note   string
}

type unbuiltKey struct {
	refuse bool
	note   string
}

const (
	notHere   = "has no meaning here"
	onlyMac   = "only means something on macOS"
	onlyLinux = "is built for Linux alone"
	notYet    = "is not built yet"
	elsewhere = "only means something on Windows"
)

// unbuiltKeys says of each key without effect what a run makes of it. A list
// that is empty and a boolean that is false ask for nothing; an empty mapping
// may ask for everything (tlsTerminate: {}).
var unbuiltKeys = map[string]unbuiltKey{
	"network.httpProxyPort":           {true, notYet},
	"network.socksProxyPort":          {true, notYet},
	"network.mitmProxy":               {true, notYet},
	"network.tlsTerminate":            {true, notYet},
	"network.requireHostMatch":        {true, notYet},
	"network.refuseOpaqueTunnels":     {true, notYet},
	"network.stripResponseHeaders":    {true, notYet},
	"network.rules.method":            {true, notYet},
	"network.rules.path":              {true, notYet},
	"network.ambiguousRequestTarget":  {false, "has no effect: no rule judges paths, requests go on as they are spelled"},
	"network.allowPlaintextHeaderSet": {false, notHere},
	"network.allowLocalBinding":       {false, "has no effect: loopback is the sandbox's own; host ports open by hostPorts"},
	"network.allowMachLookup":         {false, onlyMac},
	"credentials.files.mask":          {true, "masking " + notYet + ": it takes TLS termination. mode: deny hides the file"},
	"credentials.envVars.mask":        {true, "masking " + notYet + ": it takes TLS termination. mode: deny withholds the variable"},
	"credentials.awsPairs":            {true, notYet + ": it takes TLS termination"},
	"credentials.sigv4":               {false, "has no effect: nothing is masked"},
	"git[]":                           {true, notYet},
	"mode":                            {true, "audit " + notYet},
	"enableWeakerNestedSandbox":       {false, "has no effect: the boundary is not weakened"},
	"allowNestedUserNamespaces":       {false, notYet + ": new namespaces are refused"},
	"enableWeakerNetworkIsolation":    {false, onlyMac},
	"allowAppleEvents":                {false, onlyMac},
	"allowPty":                        {false, onlyMac},
	"bwrapPath":                       {false, notYet + ": the system's bwrap is used"},
	"socatPath":                       {false, notHere},
	"javaAgentJarPath":                {false, notHere},
	"ripgrep":                         {false, notHere},
	"seccomp":                         {false, "has no effect: the filter is built in"},
	"windows":                         {false, elsewhere},

	"credentials.allowPlaintextInject": {false, "has no effect: nothing is masked"},
}

// linuxKeys have an effect on Linux alone.
var linuxKeys = map[string]unbuiltKey{
	"limits.memory": {true, onlyLinux},
	"limits.pids":   {true, onlyLinux},
	"limits.cpu":    {true, onlyLinux},
	"publish":       {true, onlyLinux},
	"hostPorts":     {true, onlyLinux},
}

// findUnbuilt lists those of some keys that are given, in the order they stand.
func findUnbuilt(files []*File, among map[string]unbuiltKey) []Unbuilt {
	var all []Unbuilt
	for _, f := range files {
		var found []Unbuilt
		for key, rule := range f.keys {
			if u, ok := among[key]; ok && !f.off[key] {
				found = append(found, Unbuilt{Key: strings.TrimSuffix(key, "[]"), Rule: rule,
					Refuse: u.refuse, Note: u.note})
			}
		}
		slices.SortFunc(found, func(a, b Unbuilt) int {
			return cmp.Or(cmp.Compare(a.Rule.Line, b.Rule.Line), cmp.Compare(a.Key, b.Key))
		})
		all = append(all, found...)
	}
	return all
}
