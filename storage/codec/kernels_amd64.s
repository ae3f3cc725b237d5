//go:build !purego

#include "textflag.h"

// The kernels of decoding, for eight residuals and more at once. What they compute is written in Go beside where they are
// called; kernels_test.go compares the two.

DATA eighths<>+0(SB)/8, $0x00aa00aa00aa00aa // of 8x8 bits: those to be exchanged with the ones 7,
DATA eighths<>+8(SB)/8, $0x0000cccc0000cccc // 14
DATA eighths<>+16(SB)/8, $0x00000000f0f0f0f0 // and 28 above
GLOBL eighths<>(SB), RODATA, $24

DATA sevens<>+0(SB)/8, $0x0000000700000007
DATA sevens<>+8(SB)/8, $0x0000000700000007
DATA sevens<>+16(SB)/8, $0x0000000700000007
DATA sevens<>+24(SB)/8, $0x0000000700000007
GLOBL sevens<>(SB), RODATA, $32

DATA oddWords<>+0(SB)/8, $0
DATA oddWords<>+8(SB)/8, $-1
DATA oddWords<>+16(SB)/8, $0
DATA oddWords<>+24(SB)/8, $-1
GLOBL oddWords<>(SB), RODATA, $32

DATA upTo7<>+0(SB)/8, $0.0
DATA upTo7<>+8(SB)/8, $1.0
DATA upTo7<>+16(SB)/8, $2.0
DATA upTo7<>+24(SB)/8, $3.0
DATA upTo7<>+32(SB)/8, $4.0
DATA upTo7<>+40(SB)/8, $5.0
DATA upTo7<>+48(SB)/8, $6.0
DATA upTo7<>+56(SB)/8, $7.0
DATA upTo7<>+64(SB)/8, $8.0
GLOBL upTo7<>(SB), RODATA, $72

// func hasAVX2() bool
TEXT ·hasAVX2(SB), NOSPLIT, $0-1
	MOVB $0, ret+0(FP)
	XORL AX, AX
	XORL CX, CX
	CPUID
	CMPL AX, $7
	JLT  no
	MOVL $1, AX
	XORL CX, CX
	CPUID
	ANDL $0x18000000, CX // the processor has AVX, and the system uses XSAVE
	CMPL CX, $0x18000000
	JNE  no
	XORL CX, CX
	XGETBV
	ANDL $6, AX // which keeps the registers X and Y
	CMPL AX, $6
	JNE  no
	MOVL $7, AX
	XORL CX, CX
	CPUID
	SHRL $5, BX // AVX2
	ANDL $1, BX
	MOVB BX, ret+0(FP)
no:
	RET

// EIGHTHS exchanges bits of the 8x8 bits of each word of Y0 and Y1.
#define EIGHTHS(shift, mask) \
	VPSRLQ $shift, Y0, Y2 \
	VPSRLQ $shift, Y1, Y3 \
	VPXOR  Y0, Y2, Y2     \
	VPXOR  Y1, Y3, Y3     \
	VPAND  mask, Y2, Y2   \
	VPAND  mask, Y3, Y3   \
	VPXOR  Y2, Y0, Y0     \
	VPXOR  Y3, Y1, Y1     \
	VPSLLQ $shift, Y2, Y2 \
	VPSLLQ $shift, Y3, Y3 \
	VPXOR  Y2, Y0, Y0     \
	VPXOR  Y3, Y1, Y1

// UNTANGLE turns eight planes of 64 bits, in X0 to X7, into one byte per residual, in Y0 and Y1: first the 8x8 bytes are
// transposed, so that each word has those of eight residuals, then the 8x8 bits of each word.
#define UNTANGLE \
	VPUNPCKLBW  X1, X0, X0     \
	VPUNPCKLBW  X3, X2, X2     \
	VPUNPCKLBW  X5, X4, X4     \
	VPUNPCKLBW  X7, X6, X6     \
	VPUNPCKLWD  X2, X0, X1     \
	VPUNPCKHWD  X2, X0, X3     \
	VPUNPCKLWD  X6, X4, X5     \
	VPUNPCKHWD  X6, X4, X7     \
	VPUNPCKLDQ  X5, X1, X0     \
	VPUNPCKHDQ  X5, X1, X2     \
	VPUNPCKLDQ  X7, X3, X4     \
	VPUNPCKHDQ  X7, X3, X6     \
	VINSERTI128 $1, X2, Y0, Y0 \
	VINSERTI128 $1, X6, Y4, Y1 \
	EIGHTHS(7, Y8)             \
	EIGHTHS(14, Y9)            \
	EIGHTHS(28, Y10)

// func untangleAVX2(planes *[8]*byte, lane *byte, words int)
TEXT ·untangleAVX2(SB), NOSPLIT, $0-24
	MOVQ planes+0(FP), AX
	MOVQ lane+8(FP), DI
	MOVQ words+16(FP), CX
	VPBROADCASTQ eighths<>+0(SB), Y8
	VPBROADCASTQ eighths<>+8(SB), Y9
	VPBROADCASTQ eighths<>+16(SB), Y10
	MOVQ 0(AX), R8
	MOVQ 8(AX), R9
	MOVQ 16(AX), R10
	MOVQ 24(AX), R11
	MOVQ 32(AX), R12
	MOVQ 40(AX), R13
	MOVQ 48(AX), BX
	MOVQ 56(AX), DX
	XORL SI, SI
loop:
	VMOVQ (R8)(SI*8), X0
	VMOVQ (R9)(SI*8), X1
	VMOVQ (R10)(SI*8), X2
	VMOVQ (R11)(SI*8), X3
	VMOVQ (R12)(SI*8), X4
	VMOVQ (R13)(SI*8), X5
	VMOVQ (BX)(SI*8), X6
	VMOVQ (DX)(SI*8), X7
	UNTANGLE
	VMOVDQU Y0, (DI)
	VMOVDQU Y1, 32(DI)
	ADDQ $64, DI
	INCQ SI
	CMPQ SI, CX
	JLT  loop
	VZEROUPPER
	RET

// func untangleWordsAVX2(p *[8]uint64, out *[64]byte)
TEXT ·untangleWordsAVX2(SB), NOSPLIT, $0-16
	MOVQ p+0(FP), AX
	MOVQ out+8(FP), DI
	VPBROADCASTQ eighths<>+0(SB), Y8
	VPBROADCASTQ eighths<>+8(SB), Y9
	VPBROADCASTQ eighths<>+16(SB), Y10
	VMOVQ 0(AX), X0
	VMOVQ 8(AX), X1
	VMOVQ 16(AX), X2
	VMOVQ 24(AX), X3
	VMOVQ 32(AX), X4
	VMOVQ 40(AX), X5
	VMOVQ 48(AX), X6
	VMOVQ 56(AX), X7
	UNTANGLE
	VMOVDQU Y0, (DI)
	VMOVDQU Y1, 32(DI)
	VZEROUPPER
	RET

// PLANE takes the highest bit of each byte of Y0 and Y1, and then moves the next ones there.
#define PLANE(at) \
	VPMOVMSKB Y0, AX      \
	VPMOVMSKB Y1, BX      \
	SHLQ      $32, BX     \
	ORQ       BX, AX      \
	ANDQ      DX, AX      \
	MOVQ      AX, at(DI)  \
	VPADDB    Y0, Y0, Y0  \
	VPADDB    Y1, Y1, Y1

// func tangleAVX2(w, planes *[8]uint64, keep uint64)
TEXT ·tangleAVX2(SB), NOSPLIT, $0-24
	MOVQ w+0(FP), SI
	MOVQ planes+8(FP), DI
	MOVQ keep+16(FP), DX
	VMOVQ 0(SI), X0 // words, as they may just have been written
	VMOVHPS 8(SI), X0, X0
	VMOVQ 16(SI), X2
	VMOVHPS 24(SI), X2, X2
	VMOVQ 32(SI), X1
	VMOVHPS 40(SI), X1, X1
	VMOVQ 48(SI), X3
	VMOVHPS 56(SI), X3, X3
	VINSERTI128 $1, X2, Y0, Y0
	VINSERTI128 $1, X3, Y1, Y1
	PLANE(56)
	PLANE(48)
	PLANE(40)
	PLANE(32)
	PLANE(24)
	PLANE(16)
	PLANE(8)
	PLANE(0)
	VZEROUPPER
	RET

// UNZIGZAG undoes the zigzag of the int32 in Y0. X10 is 1 and Y9 are ones for columns with it, and zero for others. Y6 is zero.
#define UNZIGZAG \
	VPAND  Y9, Y0, Y1  \
	VPSRLD X10, Y0, Y0 \
	VPSUBD Y1, Y6, Y1  \
	VPXOR  Y1, Y0, Y0

// SUM replaces Y0 by the sums of its integers up to each, and of those before, which carry has. Y5 are sevens.
// VPERM2I128 gives the sum of the low half to the high one.
#define SUM(carry) \
	VPSLLDQ    $4, Y0, Y1        \
	VPADDD     Y1, Y0, Y0        \
	VPSLLDQ    $8, Y0, Y1        \
	VPADDD     Y1, Y0, Y0        \
	VPSHUFD    $0xff, Y0, Y1     \
	VPERM2I128 $0x08, Y1, Y1, Y1                              \
	VPADDD     Y1, Y0, Y0        \
	VPERMD     Y0, Y5, Y1        \
	VPADDD     carry, Y0, Y0     \
	VPADDD     Y1, carry, carry

// ADDUP replaces the eight numbers in Y2 and Y3 by their sums up to each, and of those before, which carry has.
#define ADDUP(carry) \
	VPSLLDQ    $8, Y2, Y0        \
	VPSLLDQ    $8, Y3, Y1        \
	VADDPD     Y0, Y2, Y2        \
	VADDPD     Y1, Y3, Y3        \
	VPERM2F128 $0x08, Y2, Y2, Y0 \
	VPERM2F128 $0x08, Y3, Y3, Y1 \
	VUNPCKHPD  Y0, Y0, Y0        \
	VUNPCKHPD  Y1, Y1, Y1        \
	VADDPD     Y0, Y2, Y2        \
	VADDPD     Y1, Y3, Y3        \
	VPERMPD    $0xff, Y2, Y0     \
	VPERMPD    $0xff, Y3, Y1     \
	VADDPD     carry, Y2, Y2     \
	VADDPD     Y0, carry, carry  \
	VADDPD     carry, Y3, Y3     \
	VADDPD     Y1, carry, carry

// LINEINTS makes a line of what Y15 and Y13 have four times, where it begins and its slope: four samples of it in Y15, the four after
// them in Y14, and in Y13 what it grows by in eight.
#define LINEINTS \
	VPADDQ     Y13, Y13, Y0 \
	VPAND      oddWords<>+0(SB), Y13, Y1 \
	VPADDQ     Y1, Y15, Y15 \
	VPERM2I128 $0x08, Y0, Y0, Y1 \
	VPADDQ     Y1, Y15, Y15 \
	VPADDQ     Y0, Y0, Y0 \
	VPADDQ     Y0, Y15, Y14 \
	VPADDQ     Y0, Y0, Y13

// LINEFLOATS is LINEINTS for floats, where Y0 has where the line begins.
#define LINEFLOATS \
	VMULPD       upTo7<>+0(SB), Y13, Y15 \
	VMULPD       upTo7<>+32(SB), Y13, Y14 \
	VADDPD       Y0, Y15, Y15 \
	VADDPD       Y0, Y14, Y14 \
	VBROADCASTSD upTo7<>+64(SB), Y0 \
	VMULPD       Y0, Y13, Y13

// STORE ends the loop of a function: it writes the eight numbers in Y2 and Y3 to DI, and goes on with those of the next eight bytes at SI, or
// returns. Of eight that are more than the CX that are left it writes so many.
#define STORE \
	SUBQ       $8, CX \
	JLT        rest \
	VMOVDQU    Y2, (DI) \
	VMOVDQU    Y3, 32(DI) \
	ADDQ       $64, DI \
	ADDQ       $8, SI \
	TESTQ      CX, CX \
	JNE        loop \
	VZEROUPPER \
	RET \
rest: \
	VMOVDQU    Y2, buf-64(SP) \
	VMOVDQU    Y3, buf-32(SP) \
	VZEROUPPER \
	ADDQ       $8, CX \
	XORL       AX, AX \
one: \
	MOVQ       buf-64(SP)(AX*8), DX \
	MOVQ       DX, (DI)(AX*8) \
	INCQ       AX \
	CMPQ       AX, CX \
	JLT        one \
	RET

// func integrateFloatsAVX2(k *float64, lanes *byte, stride, count, n int, base, slope, unit, divisor float64, order, zigzag int)
TEXT ·integrateFloatsAVX2(SB), NOSPLIT, $64-88
	MOVQ k+0(FP), DI
	MOVQ lanes+8(FP), SI
	MOVQ stride+16(FP), R11
	LEAQ (R11)(R11*2), R13
	MOVQ count+24(FP), R12
	MOVQ n+32(FP), CX
	VBROADCASTSD slope+48(FP), Y13
	VBROADCASTSD base+40(FP), Y0
	LINEFLOATS
	VBROADCASTSD unit+56(FP), Y12
	VBROADCASTSD divisor+64(FP), Y11
	MOVQ order+72(FP), R8
	VMOVQ zigzag+80(FP), X10
	VPBROADCASTD zigzag+80(FP), Y9
	VPXOR Y8, Y8, Y8
	VPXOR Y7, Y7, Y7
	VPXOR Y6, Y6, Y6
	MOVQ divisor+64(FP), R9
	MOVQ $0x3ff0000000000000, R10 // 1.0
loop:
	VPMOVZXBD (SI), Y0
	CMPQ R12, $2
	JLT  loaded
	VPMOVZXBD (SI)(R11*1), Y1
	VPSLLD $8, Y1, Y1
	VPOR Y1, Y0, Y0
	JEQ  loaded
	VPMOVZXBD (SI)(R11*2), Y1
	VPSLLD $16, Y1, Y1
	VPOR Y1, Y0, Y0
	CMPQ R12, $3
	JEQ  loaded
	VPMOVZXBD (SI)(R13*1), Y1
	VPSLLD $24, Y1, Y1
	VPOR Y1, Y0, Y0
loaded:
	UNZIGZAG
	VEXTRACTI128 $1, Y0, X1
	VCVTDQ2PD X0, Y2
	VCVTDQ2PD X1, Y3
	CMPQ R8, $1
	JLT  summed
	ADDUP(Y8)
	CMPQ R8, $1
	JEQ  summed
	ADDUP(Y7)
summed:
	VMULPD Y12, Y2, Y2
	VMULPD Y12, Y3, Y3
	VADDPD Y15, Y2, Y2
	VADDPD Y14, Y3, Y3
	VADDPD Y13, Y15, Y15
	VADDPD Y13, Y14, Y14
	CMPQ R9, R10
	JEQ  whole
	VDIVPD Y11, Y2, Y2
	VDIVPD Y11, Y3, Y3
whole:
	STORE

// func integrateIntsAVX2(k *int64, low, high *byte, n int, base, slope, unit int64, order, zigzag int)
TEXT ·integrateIntsAVX2(SB), NOSPLIT, $64-72
	MOVQ k+0(FP), DI
	MOVQ low+8(FP), SI
	MOVQ high+16(FP), DX
	MOVQ n+24(FP), CX
	VPBROADCASTQ base+32(FP), Y15
	VPBROADCASTQ slope+40(FP), Y13
	LINEINTS
	VPXOR Y6, Y6, Y6
	VPBROADCASTQ unit+48(FP), Y12
	MOVQ order+56(FP), R8
	VMOVQ zigzag+64(FP), X10
	VPBROADCASTD zigzag+64(FP), Y9
	VPXOR Y8, Y8, Y8
	VPXOR Y7, Y7, Y7
	VMOVDQU sevens<>+0(SB), Y5
loop:
	VPMOVZXBD (SI), Y0
	TESTQ DX, DX
	JEQ  loaded
	VPMOVZXBD (DX), Y1
	VPSLLD $8, Y1, Y1
	VPOR Y1, Y0, Y0
	ADDQ $8, DX
loaded:
	UNZIGZAG
	CMPQ R8, $1
	JLT  summed
	SUM(Y8)
	CMPQ R8, $1
	JEQ  summed
	SUM(Y7)
summed:
	VEXTRACTI128 $1, Y0, X1
	VPMOVSXDQ X0, Y2
	VPMOVSXDQ X1, Y3
	VPMULDQ Y12, Y2, Y2
	VPMULDQ Y12, Y3, Y3
	VPADDQ Y15, Y2, Y2
	VPADDQ Y14, Y3, Y3
	VPADDQ Y13, Y15, Y15
	VPADDQ Y13, Y14, Y14
	STORE

// func rampIntsAVX2(k *int64, n int, x, step int64)
TEXT ·rampIntsAVX2(SB), NOSPLIT, $0-32
	MOVQ k+0(FP), DI
	MOVQ n+8(FP), CX
	VPBROADCASTQ x+16(FP), Y15
	VPBROADCASTQ step+24(FP), Y13
	LINEINTS
loop:
	VMOVDQU Y15, (DI)
	VMOVDQU Y14, 32(DI)
	VPADDQ Y13, Y15, Y15
	VPADDQ Y13, Y14, Y14
	ADDQ $64, DI
	SUBQ $8, CX
	JG   loop
	VZEROUPPER
	RET

// func rampFloatsAVX2(k *float64, n int, x, step float64)
TEXT ·rampFloatsAVX2(SB), NOSPLIT, $0-32
	MOVQ k+0(FP), DI
	MOVQ n+8(FP), CX
	VBROADCASTSD x+16(FP), Y0
	VBROADCASTSD step+24(FP), Y13
	LINEFLOATS
loop:
	VMOVUPD Y15, (DI)
	VMOVUPD Y14, 32(DI)
	VADDPD Y13, Y15, Y15
	VADDPD Y13, Y14, Y14
	ADDQ $64, DI
	SUBQ $8, CX
	JG   loop
	VZEROUPPER
	RET

// func increasesAVX2(t *int64, n int) bool
TEXT ·increasesAVX2(SB), NOSPLIT, $0-17
	MOVQ t+0(FP), SI
	MOVQ n+8(FP), CX
	VPCMPEQQ Y1, Y1, Y1
loop:
	VMOVDQU 8(SI), Y0
	VPCMPGTQ (SI), Y0, Y0
	VPAND Y0, Y1, Y1
	ADDQ $32, SI
	SUBQ $4, CX
	JG   loop
	VPMOVMSKB Y1, AX
	VZEROUPPER
	CMPL AX, $-1
	SETEQ ret+16(FP)
	RET

// func castagnoliSSE42(b *byte, n int) uint32
TEXT ·castagnoliSSE42(SB), NOSPLIT, $0-20
	MOVQ b+0(FP), SI
	MOVQ n+8(FP), CX
	MOVL $0xffffffff, AX
	SUBQ $8, CX
	JLT  four
eight:
	CRC32Q (SI), AX
	ADDQ $8, SI
	SUBQ $8, CX
	JGE  eight
four: // CX is eight less than what is left
	TESTQ $4, CX
	JEQ  two
	CRC32L (SI), AX
	ADDQ $4, SI
two:
	TESTQ $2, CX
	JEQ  one
	CRC32W (SI), AX
	ADDQ $2, SI
one:
	TESTQ $1, CX
	JEQ  none
	CRC32B (SI), AX
none:
	NOTL AX
	MOVL AX, ret+16(FP)
	RET
