package plan

import (
	"sort"
	"strings"
)

// environment gives the payload's environment, sorted: what the policy passes
// and sets, then what the sandbox itself decides; and what was withheld although
// a pattern of the policy speaks of it.
func environment(in Input, n Network) (list, withheld []string) {
	env, all := map[string]string{}, map[string]string{}
	for _, e := range in.Environ {
		name, value, _ := strings.Cut(e, "=")
		all[name] = value
	}
	rules := in.Policy.Env()
	passed, withheld := rules.Apply(in.Environ)
	for _, e := range passed {
		name, value, _ := strings.Cut(e, "=")
		env[name] = value
	}
	for _, e := range in.Extra {
		name, value, ok := strings.Cut(e, "=")
		if !ok {
			if value, ok = all[name]; !ok {
				continue
			}
		}
		if rules.Withholds(name) {
			withheld = append(withheld, name)
			continue
		}
		env[name] = value
	}
	env["TMPDIR"] = "/tmp"
	env["PWD"] = in.Cwd
	env["SALLYPORT"] = "1"
	env["SALLYPORT_PROXY"] = ProxyPath
	if in.RuntimeDir != "" {
		env["XDG_RUNTIME_DIR"] = in.RuntimeDir
	}
	// Nothing depends on these, every connection reaches the proxy; but a client
	// that speaks to a proxy shows the reason of a denial.
	proxy := "http://" + n.Proxy4.String()
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"} {
		env[name] = proxy
	}
	env["NO_PROXY"] = "localhost,127.0.0.1,::1"
	env["no_proxy"] = env["NO_PROXY"]
	env["NODE_USE_ENV_PROXY"] = "1"
	out := make([]string, 0, len(env))
	for name, value := range env {
		out = append(out, name+"="+value)
	}
	sort.Strings(out)
	return out, withheld
}
