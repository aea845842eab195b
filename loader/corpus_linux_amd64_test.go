package loader

import "golang.org/x/sys/unix"

// archAttempts are the calls that only amd64 has.
func archAttempts(d string) []attempt {
	secret := d + "/closed/secret"
	buf := make([]byte, 512)
	return []attempt{
		{"open", unix.SYS_OPEN, []any{d + "/closed.txt", unix.O_RDONLY}, d + "/closed.txt", ""},
		{"creat", unix.SYS_CREAT, []any{d + "/ro/new", 0o600}, d + "/ro/new", ""},
		{"mkdir", unix.SYS_MKDIR, []any{d + "/ro/new", 0o700}, d + "/ro/new", ""},
		{"mknod", unix.SYS_MKNOD, []any{d + "/ro/new", unix.S_IFIFO, 0}, d + "/ro/new", ""},
		{"unlink", unix.SYS_UNLINK, []any{d + "/ro/f"}, d + "/ro/f", ""},
		{"rmdir", unix.SYS_RMDIR, []any{d + "/ro/d"}, d + "/ro/d", ""},
		{"rename", unix.SYS_RENAME, []any{d + "/ro/f", d + "/ro/g"}, d + "/ro/f", d + "/ro/g"},
		{"renameat", unix.SYS_RENAMEAT, []any{cwd, "mine", cwd, d + "/ro/g"}, d + "/own/mine", d + "/ro/g"},
		{"link", unix.SYS_LINK, []any{"mine", d + "/ro/g"}, d + "/own/mine", d + "/ro/g"},
		{"symlink", unix.SYS_SYMLINK, []any{"target", d + "/ro/new"}, d + "/ro/new", ""},
		{"chmod", unix.SYS_CHMOD, []any{d + "/ro/f", 0o777}, d + "/ro/f", ""},
		{"chown", unix.SYS_CHOWN, []any{d + "/ro/f", 1, 1}, d + "/ro/f", ""},
		{"lchown", unix.SYS_LCHOWN, []any{d + "/ro/f", 1, 1}, d + "/ro/f", ""},
		{"utime", unix.SYS_UTIME, []any{d + "/ro/f", 0}, d + "/ro/f", ""},
		{"utimes", unix.SYS_UTIMES, []any{d + "/ro/f", 0}, d + "/ro/f", ""},
		{"futimesat", unix.SYS_FUTIMESAT, []any{cwd, d + "/ro/f", 0}, d + "/ro/f", ""},
		{"access", unix.SYS_ACCESS, []any{secret, 0}, secret, ""},
		{"stat", unix.SYS_STAT, []any{secret, buf}, secret, ""},
		{"lstat", unix.SYS_LSTAT, []any{secret, buf}, secret, ""},
		{"newfstatat", unix.SYS_NEWFSTATAT, []any{cwd, secret, buf, 0}, secret, ""},
		{"readlink", unix.SYS_READLINK, []any{secret, buf, len(buf)}, secret, ""},
		{"iopl", unix.SYS_IOPL, []any{3}, "", ""},
	}
}
