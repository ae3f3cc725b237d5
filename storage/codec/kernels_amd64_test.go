//go:build !purego

package codec

import "testing"

// TestWithoutKernels: a processor that has not got what the kernels need decodes the same.
func TestWithoutKernels(t *testing.T) {
	if !useAVX2 {
		t.Skip("this processor has no AVX2")
	}
	defer func() { useAVX2 = true }()
	useAVX2 = false
	t.Run("golden", TestGoldenRows)
	t.Run("kinds", TestRoundTripEveryKind)
	t.Run("range", TestDecodeRange)
	t.Run("regular", TestRegularRows)
	t.Run("integrate", TestIntegrate)
	t.Run("untangle", TestUntangle)
	t.Run("untangleLong", TestUntangleLong)
	t.Run("ramp", TestRamp)
	t.Run("increasing", TestIncreasing)
	t.Run("shortLane", TestShortLane)
	t.Run("shortPlanes", TestShortPlanes)
}
