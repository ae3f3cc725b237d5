//go:build !amd64 || purego

package codec

import "hash/crc32"

// What kernels_amd64.go has for processors with AVX2.

const useAVX2 = false

func untangleAVX2(*[8]*byte, *byte, int)        { panic("codec: no kernels") }
func untangleWordsAVX2(*[8]uint64, *[64]byte)   { panic("codec: no kernels") }
func tangleAVX2(*[8]uint64, *[8]uint64, uint64) { panic("codec: no kernels") }

func integrateFast[T number](*column, []T, *byte, int, int) bool { return false }
func rampFast[T number]([]T, int64, int64) int                   { return 0 }
func repeatFast([]float64, float64) int                          { return 0 }
func increasing(t []int64) bool                                  { return firstDisorder(t) < 0 }
func checksum(b []byte) uint32                                   { return crc32.Checksum(b, castagnoli) }
