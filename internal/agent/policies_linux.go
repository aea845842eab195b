package agent

import (
	"sync"

	"github.com/sallyport/sallyport/internal/policy"
)

const (
	policiesKept = 32        // parsed, of all sandboxes
	policyBytes  = 256 << 10 // of one sandbox: parsing takes time that all share
)

// policies keeps those parsed that were needed last: a parsed policy takes some
// 100 kB, and most sandboxes are never refused anything.
type policies struct {
	mu   sync.Mutex
	list []parsed // the one needed last comes first
}

type parsed struct {
	sandbox string
	policy  *policy.Policy
}

// of gives a sandbox's policy; parsed anew if it has to be, which pay is told of
// before, with the number of bytes. It was parsed at registration, so this
// cannot fail.
func (c *policies) of(sandbox string, j *journal, pay func(bytes int)) (*policy.Policy, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, p := range c.list {
		if p.sandbox == sandbox {
			copy(c.list[1:i+1], c.list[:i])
			c.list[0] = p
			return p.policy, nil
		}
	}
	pay(j.Registration.size())
	p, err := j.policy()
	if err != nil {
		return nil, err
	}
	c.list = append([]parsed{{sandbox, p}}, c.list[:min(len(c.list), policiesKept-1)]...)
	return p, nil
}

// forget drops a sandbox's policy.
func (c *policies) forget(sandbox string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, p := range c.list {
		if p.sandbox == sandbox {
			c.list = append(c.list[:i:i], c.list[i+1:]...)
			return
		}
	}
}

// size is how much there is to parse.
func (r *Registration) size() (n int) {
	for _, f := range r.Files {
		n += len(f.Data)
	}
	for _, f := range r.Flags {
		n += len(f.Value)
	}
	for _, a := range r.Absent {
		n += len(a.Path) + 32 // the kernel keeps each of its names
	}
	return n
}
