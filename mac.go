package sallyport

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/sallyport/sallyport/internal/event"
	"github.com/sallyport/sallyport/internal/plan"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/seatbelt"
)

// macKeys are settings that only macOS has a meaning for, and a run there
// heeds.
var macKeys = []string{"network.allowUnixSockets", "network.allowAllUnixSockets"}

// macMissing lists what a run on macOS does not heed.
func macMissing(p *policy.Policy) []policy.Unbuilt {
	return slices.DeleteFunc(append(p.Unbuilt(), p.LinuxOnly()...), func(u policy.Unbuilt) bool {
		return slices.Contains(macKeys, u.Key)
	})
}

// shownTag stands in a profile that is shown for the random one of a run.
const shownTag = "sallyport-00000000000000000000000000000000"

// MacProfile computes the profile that a run on macOS would have, on any
// system, without its proxy's port and with a name for its temporary directory.
// Elsewhere than on macOS nothing is known of its files: names are taken as
// they are written.
func MacProfile(o Options) (*seatbelt.Profile, error) {
	env, p, err := macPolicy(&o)
	if err != nil {
		return nil, asError(err)
	}
	profile, err := seatbelt.Build(seatbelt.Input{Policy: p, FS: macFS(env), Home: env.Home,
		Tmp: filepath.Join(macTemp(), "sallyport-RUN"), Tag: shownTag})
	return profile, asError(err)
}

// macFS is the file system that a profile is made with.
func macFS(env policy.Env) plan.FS {
	if runtime.GOOS == "darwin" {
		return hostFS{}
	}
	return seatbelt.NominalRoot{Dirs: []string{env.Home, env.Cwd, env.ConfigDir, env.StateDir, env.CacheDir, env.Exe}}
}

func macTemp() string {
	if runtime.GOOS == "darwin" {
		return ResolvePath(os.TempDir())
	}
	return "/private/tmp"
}

// macPolicy loads the policy of a run on macOS, and refuses one that asks for
// more than there is.
func macPolicy(o *Options) (policy.Env, *policy.Policy, error) {
	env, err := runEnv(o)
	if err != nil {
		return env, nil, err
	}
	load := o.Policy
	load.Env = env
	p, err := LoadPolicy(load)
	if err != nil {
		return env, nil, err
	}
	if err := checkBuilt(p, macMissing(p), o.Warn); err != nil {
		return env, nil, err
	}
	if r := p.Require(); r.Tier > event.TierRootless {
		return env, nil, &Error{Err: fmt.Errorf("%s: the policy requires tier %s, macOS has %s", r.TierRule, r.Tier, event.TierSeatbelt),
			Hint: "lower require.tier for macOS", Status: statusFailed}
	}
	return env, p, nil
}

func hintIn(err error) string {
	var e *seatbelt.Error
	if errors.As(err, &e) {
		return e.Hint
	}
	return ""
}
