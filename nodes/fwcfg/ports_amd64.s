#include "textflag.h"

// func outw(port, value uint16)
TEXT ·outw(SB), NOSPLIT, $0-4
	MOVW	port+0(FP), DX
	MOVW	value+2(FP), AX
	OUTW
	RET

// func insb(port uint16, p *byte, n int)
TEXT ·insb(SB), NOSPLIT, $0-24
	MOVW	port+0(FP), DX
	MOVQ	p+8(FP), DI
	MOVQ	n+16(FP), CX
	CLD
	REP; INSB
	RET
