package main

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"
	"syscall"

	"github.com/sallyport/sallyport"
)

// identity is the user that a payload, its proxy and its record belong to.
type identity struct {
	uid, gid int
	name     string // empty: no entry in the user database
	home     string
	shell    string
}

// becomeUser makes sure that what follows runs as an ordinary user. User 0 is
// never the payload by default: it takes --user, else who called sudo, else the
// owner of the working directory. Where the user changes, the program starts
// anew as that user and this call does not return.
func becomeUser(flag string) error {
	if os.Geteuid() != 0 {
		if flag == "" {
			return nil
		}
		id, err := lookupUser(flag)
		if err != nil {
			return err
		}
		if id.uid != os.Geteuid() {
			return runError(fmt.Errorf("--user %s: only root may choose another user", flag), "")
		}
		return nil
	}
	spec := flag
	if spec == "" {
		spec = defaultUser(os.Getenv("SUDO_UID"), os.Getenv("SUDO_GID"))
	}
	if spec == "" {
		return runError(fmt.Errorf("refusing to run the command as root"),
			"name a user: --user NAME or --user UID:GID ('--user root' if it must be root)")
	}
	id, err := lookupUser(spec)
	if err != nil {
		return err
	}
	if id.uid == 0 {
		return nil
	}
	return startAs(id)
}

// defaultUser is who called sudo, or owns the working directory; never root.
func defaultUser(sudoUID, sudoGID string) string {
	if sudoUID != "" && sudoUID != "0" {
		return strings.TrimSuffix(sudoUID+":"+sudoGID, ":")
	}
	fi, err := os.Stat(".")
	if err != nil {
		return ""
	}
	st := fi.Sys().(*syscall.Stat_t)
	if st.Uid == 0 {
		return ""
	}
	return fmt.Sprintf("%d:%d", st.Uid, st.Gid)
}

// lookupUser reads NAME, UID or UID:GID.
func lookupUser(spec string) (identity, error) {
	bad := func(err error) (identity, error) {
		return identity{}, runError(fmt.Errorf("--user %s: %w", spec, err), "give a user name, or UID or UID:GID in decimal")
	}
	who, group, hasGroup := strings.Cut(spec, ":")
	var u *user.User
	uid, err := parseID(who)
	if err == nil {
		u, _ = user.LookupId(who) // may have no entry
	} else if u, err = user.Lookup(who); err != nil {
		return bad(err)
	} else if uid, err = parseID(u.Uid); err != nil {
		return bad(err)
	}
	id := identity{uid: uid, gid: uid, home: "/", shell: "/bin/sh"}
	if u != nil {
		id.name, id.home = u.Username, u.HomeDir
		if id.gid, err = parseID(u.Gid); err != nil {
			return bad(err)
		}
	} else if !hasGroup {
		return bad(fmt.Errorf("user %d has no entry in the user database: name its group too, UID:GID", uid))
	}
	if hasGroup {
		if id.gid, err = parseID(group); err != nil {
			return bad(fmt.Errorf("group %w", err))
		}
	}
	return id, nil
}

// parseID reads a user's or group's number; -1, in 32 bits, is none
// (setresuid(2)).
func parseID(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n == 1<<32-1 {
		return 0, fmt.Errorf("%q is not a number from 0 to %d", s, uint32(1<<32-2))
	}
	return int(n), nil
}

// startAs gives root up for good and executes this program anew, so that no
// memory of root's stays in a process of the user's.
func startAs(id identity) error {
	kernel, err := sallyport.KeepKernel(id.uid, id.gid)
	if err != nil {
		return runError(err, "")
	}
	if err := syscall.Setgroups([]int{id.gid}); err != nil {
		return runError(fmt.Errorf("set groups: %w", err), "")
	}
	if err := syscall.Setresgid(id.gid, id.gid, id.gid); err != nil {
		return runError(fmt.Errorf("set group %d: %w", id.gid, err), "")
	}
	if err := syscall.Setresuid(id.uid, id.uid, id.uid); err != nil {
		return runError(fmt.Errorf("set user %d: %w", id.uid, err), "")
	}
	exe, err := os.Executable()
	if err != nil {
		return runError(err, "")
	}
	env := userEnv(os.Environ(), id)
	if kernel != "" {
		env = append(env, kernel)
	}
	err = syscall.Exec(exe, os.Args, env)
	return runError(fmt.Errorf("start again as user %d: %w", id.uid, err),
		fmt.Sprintf("install sallyport where user %d can execute it, for example in /usr/local/bin", id.uid))
}

// userEnv is the environment for another user: who and where he is, and nothing
// that points into root's own directories.
func userEnv(env []string, id identity) []string {
	oldHome := "/root"
	for _, e := range env {
		if h, ok := strings.CutPrefix(e, "HOME="); ok && h != "" && h != "/" {
			oldHome = h
		}
	}
	var out []string
	for _, e := range env {
		name, value, _ := strings.Cut(e, "=")
		switch {
		case name == "HOME", name == "USER", name == "LOGNAME", name == "SHELL", name == "MAIL":
		case strings.HasPrefix(name, "XDG_") && (strings.HasPrefix(value, oldHome) || strings.HasPrefix(value, "/run/user/")):
		default:
			out = append(out, e)
		}
	}
	name := id.name
	if name == "" {
		name = strconv.Itoa(id.uid)
	}
	return append(out, "HOME="+id.home, "USER="+name, "LOGNAME="+name, "SHELL="+id.shell)
}
