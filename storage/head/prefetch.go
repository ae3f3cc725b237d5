//go:build amd64 || arm64

package head

import "unsafe"

// prefetch asks the processor for the cache line at p, which will be needed soon. It reads and writes nothing.
//
//go:noescape
func prefetch(p unsafe.Pointer)
