// Package fakemac plays the programs of macOS that a run there starts, for
// tests on any system: a test binary that calls Main first is /usr/bin/log or
// /usr/bin/sandbox-exec where its environment says so. Only tests import it.
//
// What the kernel would report stands in the file "log" of a directory, a line
// of ndjson for each record.
package fakemac

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// The variables that make a test binary another program. Mode is a list of
// words, joined by commas, that say what goes wrong.
const (
	Program = "FAKE_PROGRAM"
	Dir     = "FAKE_DIR"
	Mode    = "FAKE_MODE"
)

// Env gives the variables that make a test binary a program.
func Env(program, dir, mode string) []string {
	return []string{Program + "=" + program, Dir + "=" + dir, Mode + "=" + mode}
}

// Main plays the program that the environment names, and does not return; it
// returns where there is none.
func Main() {
	mode := os.Getenv(Mode)
	switch os.Getenv(Program) {
	case "/usr/bin/log":
		os.Exit(logMain(os.Args[1:], mode))
	case "/usr/bin/sandbox-exec":
		os.Exit(sandboxExec(os.Args[1:], mode))
	}
}

func has(mode, what string) bool { return slices.Contains(strings.Split(mode, ","), what) }

// Append adds lines to what the kernel has said.
func Append(dir string, lines ...string) {
	file, err := os.OpenFile(filepath.Join(dir, "log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	defer file.Close()
	for _, l := range lines {
		fmt.Fprintln(file, l)
	}
}

// Entry is a line of ndjson as log(1) writes it, with all of its members.
func Entry(pid int, process, message string) string { return entryAt(pid, process, message, 987654321) }

func entryAt(pid int, process, message string, mach int64) string {
	text, err := json.Marshal(message)
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf(`{"traceID":12345678901234,"eventMessage":%s,"eventType":"logEvent","source":null,`+
		`"formatString":"%%s\n","activityIdentifier":0,"subsystem":"com.apple.sandbox.reporting","category":"violation",`+
		`"threadID":114537,"senderImageUUID":"7A1B2C3D-0000-1111-2222-333344445555","backtrace":{"frames":[{"imageOffset":81956,`+
		`"imageUUID":"7A1B2C3D-0000-1111-2222-333344445555"}]},"bootUUID":"4C3B2A19-0000-1111-2222-333344445555",`+
		`"processImagePath":%q,"senderImagePath":"\/System\/Library\/Extensions\/Sandbox.kext\/Contents\/MacOS\/Sandbox",`+
		`"timestamp":"2026-09-18 11:11:11.806671-0400","machTimestamp":%d,"messageType":"Error",`+
		`"processImageUUID":"1A1B2C3D-0000-1111-2222-333344445555","processID":%d,"senderProgramCounter":81956,`+
		`"parentActivityIdentifier":0,"timezoneName":""}`, strings.ReplaceAll(string(text), "/", `\/`), process, mach, pid)
}

var clock = struct {
	sync.Mutex
	now int64
}{now: time.Now().UnixNano()}

// KernelSays is a record of the kernel's with a clock of its own.
func KernelSays(text string) string {
	clock.Lock()
	defer clock.Unlock()
	clock.now++
	return entryAt(0, "/kernel", text, clock.now)
}

// logMain plays /usr/bin/log.
func logMain(args []string, mode string) int {
	file := filepath.Join(os.Getenv(Dir), "log")
	switch {
	case has(mode, "not-admin"):
		fmt.Fprintln(os.Stderr, "log: Must be admin to run 'stream' command")
		return 77
	case has(mode, "sandboxed"):
		fmt.Fprintln(os.Stderr, "log: Cannot run while sandboxed")
		return 64
	case has(mode, "exit3"):
		fmt.Fprintln(os.Stderr, "log: Bad predicate")
		return 3
	case has(mode, "deaf-to-term"):
		signal.Ignore(syscall.SIGTERM)
	}
	if args[0] == "show" {
		b, _ := os.ReadFile(file)
		if !has(mode, "show-nothing") {
			os.Stdout.Write(b)
		}
		fmt.Println(`{"count":7,"finished":1}`)
		return 0
	}
	fmt.Println(`Filtering the log data using "processID == 0"`)
	if has(mode, "slow") {
		time.Sleep(150 * time.Millisecond)
	}
	deaf := has(mode, "deaf") || has(mode, "needs-type") && !slices.Contains(args, "--type")
	return follow(file, mode, deaf)
}

// follow prints what comes, and nothing of what was there before. The file
// "die" ends it.
func follow(file, mode string, deaf bool) int {
	at, _ := os.ReadFile(file)
	end, shown := len(at), false
	die := filepath.Join(filepath.Dir(file), "die")
	for {
		b, _ := os.ReadFile(file)
		if whole := b[:bytes.LastIndexByte(b, '\n')+1]; len(whole) > end && !deaf {
			write(whole[end:], mode)
			end, shown = len(whole), true
		}
		if has(mode, "stalls") && shown {
			// An empty select is a deadlock to the runtime where nothing else can wake it.
			time.Sleep(time.Hour)
		}
		if os.Remove(die) == nil {
			return 1
		}
		time.Sleep(time.Millisecond)
	}
}

func write(b []byte, mode string) {
	if !has(mode, "dribbles") {
		os.Stdout.Write(b)
		return
	}
	for part := range slices.Chunk(b, 7) {
		os.Stdout.Write(part)
	}
}

var messageIn = regexp.MustCompile(`\(with message "([^"]*)"\)`)

// sandboxExec plays /usr/bin/sandbox-exec: of its profiles it knows the
// canary's; otherwise it becomes the command.
func sandboxExec(args []string, mode string) int {
	switch {
	case has(mode, "nested"):
		fmt.Fprintln(os.Stderr, "sandbox-exec: sandbox_apply: Operation not permitted")
		return 71
	case has(mode, "bad-profile") && !strings.Contains(args[1], "(allow default)"):
		fmt.Fprintln(os.Stderr, "sandbox-exec: <input string>:3:7: unbound variable: nonsense")
		return 65
	case has(mode, "hangs"):
		time.Sleep(time.Hour)
	}
	argv := args[slices.Index(args, "--")+1:]
	tag := messageIn.FindStringSubmatch(args[1])
	switch {
	case argv[0] == "/bin/cat" && tag != nil:
		Append(os.Getenv(Dir), KernelSays(fmt.Sprintf("Sandbox: cat(%d) deny(1) file-read-data %s\n%s",
			os.Getpid(), args[len(args)-1], tag[1])))
		return 1
	case argv[0] == "/usr/bin/true":
		return 0
	}
	env := slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, "FAKE_") })
	err := syscall.Exec(argv[0], argv, env)
	fmt.Fprintln(os.Stderr, "sandbox-exec:", err)
	return 71
}
