package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// settled is how long a run goes on before what its start took is given back: short
// ones end before.
const settled = time.Second

// giveBackLater has giveBackProgram done when this process has settled.
func giveBackLater() {
	time.AfterFunc(settled, func() { _ = giveBackProgram() }) // refused: all stays as it is
}

// giveBackProgram unmaps the pages of this program's file. Most of them were needed
// for the start alone, 10 MB; the others are mapped again when they are touched. What
// can be written is left alone.
func giveBackProgram() error {
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("find the program's memory: %w", err)
	}
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		return fmt.Errorf("find the program's memory: %w", err)
	}
	defer maps.Close()
	lines := bufio.NewScanner(maps)
	for lines.Scan() { // proc_pid_maps(5)
		var from, to uintptr
		var may string
		if _, err := fmt.Sscanf(lines.Text(), "%x-%x %s", &from, &to, &may); err != nil {
			return fmt.Errorf("read the program's memory: %w", err)
		}
		if !strings.HasSuffix(lines.Text(), " "+exe) || may[1] == 'w' {
			continue
		}
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, from, to-from, unix.MADV_DONTNEED); errno != 0 {
			return fmt.Errorf("give back the program's memory: %w", errno)
		}
	}
	return lines.Err()
}
