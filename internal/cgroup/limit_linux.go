package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// ErrNoController: what would enforce a limit is not in the hierarchy, or not
// handed down to here.
var ErrNoController = errors.New("cgroup v2 has no such controller here")

// Limit bounds a group that nothing runs in yet. The groups above it get the
// controllers that this takes. Every limit holds, or there is an error.
func (g *Group) Limit(l Limits) error {
	want := l.controllers()
	if len(want) == 0 {
		return nil
	}
	mount, err := Mount()
	if err != nil {
		return err
	}
	if err := handDown(mount, filepath.Dir(g.Dir), want); err != nil {
		return err
	}
	for _, s := range l.settings() {
		if err := g.write(s.file, s.value); err != nil && !(s.missing && errors.Is(err, os.ErrNotExist)) {
			return fmt.Errorf("limit %s: %w", s.controller, err)
		}
	}
	return Limited(g.Dir, l)
}

// handDown enables controllers for the children of every group from the root to
// dir.
func handDown(mount, dir string, want []string) error {
	rel, err := filepath.Rel(mount, dir)
	if err != nil || strings.HasPrefix(rel, "..") {
		return fmt.Errorf("limit: %s is not below %s", dir, mount)
	}
	at := mount
	for _, part := range append([]string{"."}, strings.Split(rel, "/")...) {
		at = filepath.Join(at, part)
		have, err := os.ReadFile(filepath.Join(at, "cgroup.controllers"))
		if err != nil {
			return fmt.Errorf("limit: %w", err)
		}
		if names := lacking(want, string(have)); len(names) > 0 {
			return fmt.Errorf("limit %s: %w (%s)", strings.Join(names, ", "), ErrNoController, at)
		}
		enable := "+" + strings.Join(want, " +")
		if err := (&Group{Dir: at}).write("cgroup.subtree_control", enable); err != nil {
			return fmt.Errorf("limit: hand %s down below %s: %w", strings.Join(want, ", "), at, err)
		}
	}
	return nil
}

// Limited fails unless a group has these limits, whoever has set them.
func Limited(dir string, l Limits) error {
	for _, s := range l.settings() {
		b, err := os.ReadFile(filepath.Join(dir, s.file))
		if s.missing && errors.Is(err, os.ErrNotExist) {
			continue
		}
		if errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("limit %s: %w (%s)", s.controller, ErrNoController, dir)
		}
		if err != nil {
			return fmt.Errorf("limit: %w", err)
		}
		if got := strings.TrimSpace(string(b)); got != s.value {
			return fmt.Errorf("limit %s: %s says %q, want %q", s.controller, s.file, got, s.value)
		}
	}
	return nil
}

// Of finds the group that a process is in.
func Of(pid int) (dir string, err error) {
	mount, err := Mount()
	if err != nil {
		return "", err
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return "", fmt.Errorf("find the cgroup of process %d: %w", pid, err)
	}
	path, err := ownPath(string(b))
	if err != nil {
		return "", err
	}
	return filepath.Join(mount, path), nil
}
