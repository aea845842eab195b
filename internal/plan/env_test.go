package plan

import (
	"strings"
	"testing"
)

func TestEnvironmentPassesOnlyTheAllowlist(t *testing.T) {
	for name, test := range map[string]struct {
		policy         string
		environ, extra []string
		want, gone     []string // "NAME=VALUE"; names
	}{
		"default": {
			environ: []string{"PATH=/bin", "HOME=/home/u", "LC_ALL=C", "TERM=vt100", "SSH_AUTH_SOCK=/s", "AWS_SECRET_ACCESS_KEY=x",
				"GITHUB_TOKEN=x", "DBUS_SESSION_BUS_ADDRESS=unix:path=/x", "LD_PRELOAD=/x.so", "DISPLAY=:0", "no equals sign"},
			want: []string{"PATH=/bin", "HOME=/home/u", "LC_ALL=C", "TERM=vt100"},
			gone: []string{"SSH_AUTH_SOCK", "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "DBUS_SESSION_BUS_ADDRESS", "LD_PRELOAD", "DISPLAY", "no equals sign"},
		},
		"a pattern passes no secret": {
			environ: []string{"LC_API_TOKEN=x", "LC_TIME=C"},
			want:    []string{"LC_TIME=C"}, gone: []string{"LC_API_TOKEN"},
		},
		"the policy's own": {
			policy:  "env: {pass: [GOPATH, 'NPM_*', NPM_TOKEN], set: {A: b}, unset: [LANG]}",
			environ: []string{"GOPATH=/g", "NPM_X=1", "NPM_TOKEN=t", "NPM_PASSWORD=p", "LANG=C", "A=a"},
			want:    []string{"GOPATH=/g", "NPM_X=1", "NPM_TOKEN=t", "A=b"}, gone: []string{"NPM_PASSWORD", "LANG"},
		},
		"asked for": {
			environ: []string{"GITHUB_TOKEN=x=y", "EMPTY="},
			extra:   []string{"GITHUB_TOKEN", "EMPTY", "NEW=v=w", "MISSING"},
			want:    []string{"GITHUB_TOKEN=x=y", "EMPTY=", "NEW=v=w"}, gone: []string{"MISSING"},
		},
		"what the sandbox decides": {
			environ: []string{"TMPDIR=/var/tmp", "HTTP_PROXY=http://evil", "no_proxy=*", "PWD=/", "SALLYPORT_PROXY=/x", "XDG_RUNTIME_DIR=/x"},
			want: []string{"TMPDIR=/tmp", "HTTP_PROXY=http://198.18.0.1:923", "https_proxy=http://198.18.0.1:923",
				"no_proxy=localhost,127.0.0.1,::1", "PWD=/home/u/w", "SALLYPORT=1", "SALLYPORT_PROXY=/run/sallyport/proxy.sock", "XDG_RUNTIME_DIR=/run/user/7"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			in := testInput(t, newTree(homeTree), test.policy)
			in.Environ, in.Extra = test.environ, test.extra
			got := map[string]string{}
			for _, e := range mustMake(t, in).Env {
				n, _, _ := strings.Cut(e, "=")
				if _, twice := got[n]; twice {
					t.Errorf("%s twice", n)
				}
				got[n] = e
			}
			for _, w := range test.want {
				if n, _, _ := strings.Cut(w, "="); got[n] != w {
					t.Errorf("got %q, want %q", got[n], w)
				}
			}
			for _, g := range test.gone {
				if e, ok := got[g]; ok {
					t.Errorf("passed %q", e)
				}
			}
		})
	}
}

func TestWithheldVariablesAreNamedWithoutTheirValue(t *testing.T) {
	in := testInput(t, newTree(homeTree), "")
	in.Environ = []string{"LC_TOKEN=sesame", "PATH=/opensesame"}
	text := mustMake(t, in).String()
	if !strings.Contains(text, "LC_TOKEN") || strings.Contains(text, "sesame") {
		t.Errorf("got\n%s", text)
	}
}
