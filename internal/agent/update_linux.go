package agent

import "fmt"

// update replaces a sandbox's policy, of which it is checked that it would be
// taken for a new one. Only the connection that registered the sandbox gets here.
func (s *Server) update(b *box, u *Update) (*registered, error) {
	next := Registration{ID: b.ID, Env: b.Registration.Env, Files: u.Files, Flags: u.Flags}
	if next.size() > policyBytes {
		return nil, refuse("", fmt.Sprintf("the policy has more than %d bytes", policyBytes))
	}
	s.quotas.spend(b.UID, 5+float64(next.size())/1024) // parsing takes time that all share
	p, err := next.parse(*s.ceiling.Load())
	if err != nil {
		return nil, err
	}
	b.PolicySHA256 = p.SHA256()
	if err := s.place.write(&b.journal); err != nil {
		return nil, err
	}
	as := *b.sandbox.Load()
	as.PolicySHA256 = b.PolicySHA256
	b.sandbox.Store(&as)
	return b.registered(), nil
}
