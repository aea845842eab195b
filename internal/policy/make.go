package policy

import "errors"

// Make parses sources and merges them, the administrator's before the rest, and
// flags last. The error lists the problems of every source.
func Make(env Env, sources []Source, flags Flags, notes ...Warning) (*Policy, error) {
	var files []*File
	var problems Errors
	for _, s := range sources {
		f, err := Parse(s)
		var found Errors
		switch {
		case err == nil:
			files = append(files, f)
		case errors.As(err, &found):
			problems = append(problems, found...)
		default:
			return nil, err
		}
	}
	if len(problems) > 0 {
		return nil, problems
	}
	if len(flags) > 0 {
		files = append(files, FromFlags(flags))
	}
	p, err := New(env, files...)
	if err != nil {
		return nil, err
	}
	p.warnings = append(p.warnings, notes...)
	return p, nil
}
