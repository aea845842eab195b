// Package guest is the harness's side inside a test VM: it runs a job's steps one
// after the other, kills what hangs or stays behind, and reports as it goes.
package guest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/testvm/internal/report"
)

// user is whom ordinary steps run as.
type user struct {
	Name     string
	UID, GID uint32
	Home     string
}

var root = user{Name: "root", Home: "/root"}

// command is how one step is started.
type command struct {
	argv []string
	env  []string
	dir  string
	as   user
	unit string // the unit it runs in; empty: none
}

// systemPath is the same for everyone: tests need nft and ip, which some
// distributions keep from an ordinary user's PATH.
const systemPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// plan says how to start a step; ordinary is the ordinary user.
func plan(job report.Job, number int, ordinary user) command {
	step := job.Steps[number]
	c := command{as: root, dir: step.Dir, argv: step.Argv}
	if step.User {
		c.as = ordinary
		c.argv = slices.Concat(job.UserWrap, step.Argv)
	}
	if c.dir == "" {
		c.dir = "/"
	}
	c.env = []string{"PATH=" + systemPath, "HOME=" + c.as.Home, "USER=" + c.as.Name, "LOGNAME=" + c.as.Name,
		"SHELL=/bin/sh", "TERM=dumb", "LANG=C.UTF-8"}
	c.env = slices.Concat(c.env, job.Env, step.Env)
	if job.Systemd {
		c.intoUnit(number)
	}
	return c
}

// intoUnit makes a transient unit of the command, with a cgroup subtree of its
// own: of the user's service manager for the ordinary user.
func (c *command) intoUnit(number int) {
	c.unit = fmt.Sprintf("testvm-step-%d.service", number)
	argv := []string{"systemd-run", "--quiet", "--pipe", "--wait", "--collect",
		"--unit=" + c.unit, "--property=Delegate=yes", "--working-directory=" + c.dir}
	if c.as.UID != 0 {
		argv = append(argv, "--user")
		c.env = append(c.env, fmt.Sprintf("XDG_RUNTIME_DIR=/run/user/%d", c.as.UID))
	}
	for _, kv := range c.env {
		argv = append(argv, "--setenv="+kv)
	}
	c.argv = append(append(argv, "--"), c.argv...)
}

// signal is the command that signals every process of a step's unit.
func (c command) signal(name string) []string {
	argv := []string{"systemctl", "kill", "--signal=" + name, c.unit}
	if c.as.UID != 0 {
		argv = append(argv, "--user")
	}
	return argv
}

// findUser reads an ordinary user out of a passwd file.
func findUser(passwd string, uid uint32) (user, error) {
	for _, line := range strings.Split(passwd, "\n") {
		var u user
		f := strings.Split(line, ":")
		if len(f) != 7 || f[2] != fmt.Sprint(uid) {
			continue
		}
		if _, err := fmt.Sscanf(f[3], "%d", &u.GID); err != nil {
			return user{}, fmt.Errorf("parse passwd entry of uid %d: %w", uid, err)
		}
		u.Name, u.UID, u.Home = f[0], uid, f[5]
		return u, nil
	}
	return user{}, fmt.Errorf("no user with uid %d", uid)
}
