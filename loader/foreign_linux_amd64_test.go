package loader

import (
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/event"
)

// foreign opens a file by the i386 door: open(2) is number 5 there.
func init() {
	payloads["foreign"] = func(args []string) int {
		code := must(unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_32BIT))
		// push rbx; mov ebx, imm32; xor ecx, ecx; mov eax, 5; int 0x80; pop rbx; ret
		copy(code, "\x53\xbb\x00\x00\x00\x00\x31\xc9\xb8\x05\x00\x00\x00\xcd\x80\x5b\xc3")
		copy(code[256:], args[0]+"\x00")
		*(*uint32)(unsafe.Pointer(&code[2])) = uint32(uintptr(unsafe.Pointer(&code[256])))
		entry := &code[0]
		f := *(*func() int32)(unsafe.Pointer(&[]*(*byte){&entry}[0]))
		return int(-f()) ^ int(unix.EACCES)
	}
}

func TestACallByAnotherArchitecturesDoorIsRecordedAsSuch(t *testing.T) {
	b, d, self := whoWorld(t)
	b.run(t, self, "foreign", d+"/closed.txt")
	for _, r := range b.records() {
		if r.Event.Operation == event.SysRefused && strings.HasPrefix(r.Event.Object.Syscall, "foreign(5)") {
			return
		}
	}
	t.Error("it has no record")
}
