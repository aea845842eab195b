package policy

import (
	_ "embed"
	"strings"
)

// secretsText is read-denied where no file says otherwise.
//
//go:embed secrets.txt
var secretsText string

const defaultScanDepth = 3

// Secrets lists the built-in read denials as written, for show and docs.
func Secrets() []string {
	var list []string
	for line := range strings.Lines(secretsText) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			list = append(list, line)
		}
	}
	return list
}

func secretEntries() []pathEntry {
	var entries []pathEntry
	for _, s := range Secrets() {
		entries = append(entries, pathEntry{path: s, rule: builtin("secrets:" + s)})
	}
	return entries
}

// defaultHidden is what is hidden where no file says otherwise.
func (m *merger) defaultHidden() []pathEntry {
	if m.ceiling != nil {
		return nil
	}
	return secretEntries()
}

const ruleWorkDir = "working-directory"

// defaultWrite is the working directory, unless writing there means writing
// everywhere the user can.
func (m *merger) defaultWrite() []pathEntry {
	if m.ceiling != nil {
		return []pathEntry{{path: "/", literal: true, rule: builtin(ruleNoCeiling)}}
	}
	if within(m.env.Home, m.env.Cwd) {
		return nil
	}
	return []pathEntry{{path: m.env.Cwd, literal: true, rule: builtin(ruleWorkDir)}}
}

// defaultPass lists the variables every sandbox has: what programs need to
// find themselves and to speak the user's language, and nothing that opens
// anything.
func defaultPass() []string {
	return []string{"PATH", "HOME", "USER", "LOGNAME", "SHELL", "PWD", "LANG", "LANGUAGE", "LC_*",
		"TZ", "TERM", "COLORTERM", "TERM_PROGRAM", "NO_COLOR", "FORCE_COLOR", "CLICOLOR",
		"CLICOLOR_FORCE", "COLUMNS", "LINES", "EDITOR", "VISUAL", "PAGER", "CI"}
}
