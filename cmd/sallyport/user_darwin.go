package main

import (
	"errors"
	"fmt"
	"os"
)

// becomeUser refuses what would make root's the payload, or another user's: on
// macOS a run belongs to who starts it. '--user root' is root's to say.
func becomeUser(flag string) error {
	switch root := os.Geteuid() == 0; {
	case root && flag != "root":
		return runError(errors.New("refusing to run the command as root"),
			"run sallyport as the user: sudo -u NAME sallyport run … ('--user root' if it must be root)")
	case !root && flag != "":
		return runError(fmt.Errorf("--user %s: only Linux has it", flag), "run sallyport as the user: sudo -u NAME sallyport run …")
	}
	return nil
}
