package policy

import (
	"strconv"
	"strings"
)

// fixHost gives the smallest change that allows a host: the flag, and the key.
// The two ports of the web go without saying; any other is part of it.
func fixHost(req NetRequest) string {
	entry := req.Host.String()
	if req.Host.IsAddr() && req.Host.Addr.Is6() {
		entry = "[" + entry + "]"
	}
	if req.Port != 80 && req.Port != 443 {
		entry += ":" + strconv.Itoa(int(req.Port))
	}
	return FlagAllowDomain + " " + quote(entry) + " (network.allowedDomains: [" + quote(entry) + "])"
}

// fixPath gives the smallest change for a path; flag is empty where there is
// none that does it.
func fixPath(key, flag, path string) string {
	if isPattern(path) {
		return key + ": [{path: " + quote(path) + ", literal: true}]"
	}
	yaml := key + ": [" + quote(path) + "]"
	if flag == "" {
		return yaml
	}
	return flag + " " + quote(path) + " (" + yaml + ")"
}

const plainBytes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+:@"

// quote makes text that a shell and YAML read as it is, and a terminal can be
// shown.
func quote(s string) string {
	if s != "" && strings.Trim(s, plainBytes) == "" && strings.IndexByte("@-:", s[0]) < 0 {
		return s
	}
	if !strings.Contains(s, "'") && strconv.Quote(s) == `"`+s+`"` {
		return "'" + s + "'"
	}
	return strconv.QuoteToASCII(s)
}
