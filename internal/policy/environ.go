package policy

import (
	"slices"
	"strings"
)

// secretWords in a name mean that a pattern does not pass the variable: it has
// to be named in full.
var secretWords = []string{"TOKEN", "SECRET", "PASSWORD", "PASSWD", "PASSPHRASE", "CREDENTIAL",
	"API_KEY", "APIKEY", "PRIVATE_KEY", "ACCESS_KEY", "AUTH", "COOKIE", "SESSION", "DSN"}

func secretName(name string) bool {
	upper := strings.ToUpper(name)
	return strings.HasSuffix(upper, "_KEY") ||
		slices.ContainsFunc(secretWords, func(w string) bool { return strings.Contains(upper, w) })
}

// Withholds reports whether a layer above keeps a variable out, however it is
// asked for.
func (r EnvRules) Withholds(name string) bool {
	return matchName(r.Never, name) ||
		slices.ContainsFunc(r.Only, func(list []string) bool { return !matchName(list, name) })
}

// Apply gives the sandbox's environment from the caller's, in the caller's
// order with Set at the end, and the names it withheld although a rule
// speaks of them: they look like secrets, or a layer above says so.
func (r EnvRules) Apply(environ []string) (env, withheld []string) {
	for _, kv := range environ {
		name, _, ok := strings.Cut(kv, "=")
		if _, isSet := r.Set[name]; !ok || isSet || !envName.MatchString(name) || matchName(r.Unset, name) {
			continue
		}
		if r.Withholds(name) {
			if matchName(r.Pass, name) {
				withheld = append(withheld, name)
			}
			continue
		}
		switch {
		case slices.Contains(r.Pass, name):
			env = append(env, kv)
		case !matchName(r.Pass, name):
		case secretName(name):
			withheld = append(withheld, name)
		default:
			env = append(env, kv)
		}
	}
	names := make([]string, 0, len(r.Set))
	for name := range r.Set {
		if r.Withholds(name) {
			withheld = append(withheld, name)
			continue
		}
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		env = append(env, name+"="+r.Set[name])
	}
	return env, withheld
}

func matchName(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		prefix, ok := strings.CutSuffix(p, "*")
		return p == name || ok && strings.HasPrefix(name, prefix)
	})
}
