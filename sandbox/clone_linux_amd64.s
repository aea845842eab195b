#include "textflag.h"

// func cloneShared(flags, stack uintptr, p *program) (pid, errno uintptr)
TEXT ·cloneShared(SB), NOSPLIT, $0-40
	MOVQ flags+0(FP), DI
	MOVQ stack+8(FP), SI
	MOVQ p+16(FP), R12
	XORL DX, DX
	XORL R10, R10
	XORL R8, R8
	MOVL $56, AX // SYS_clone
	SYSCALL
	TESTQ AX, AX
	JEQ  child
	CMPQ AX, $0xfffffffffffff001
	JLS  made
	NEGQ AX
	MOVQ $0, pid+24(FP)
	MOVQ AX, errno+32(FP)
	RET
made:
	MOVQ AX, pid+24(FP)
	MOVQ $0, errno+32(FP)
	RET
child: // on its own stack
	SUBQ $16, SP
	MOVQ R12, 0(SP)
	CALL ·runAndExit(SB)
	INT  $3
