//go:build !amd64 || purego

package codec

const useAVX2 = false

func untangleAVX2(*[8]*byte, *byte, int)                        { panic("codec: no kernels") }
func untangleWordsAVX2(*[8]uint64, *[64]byte)                   { panic("codec: no kernels") }
func integrateFast[T number](*column, []T, []byte, []byte) bool { return false }
func rampFast([]int64, int64, int64) int                        { return 0 }
