//go:build !unix

package codec

import "time"

var began = time.Now()

// cpuTime is the time on the clock where that of the processor cannot be told.
func cpuTime() time.Duration { return time.Since(began) }
