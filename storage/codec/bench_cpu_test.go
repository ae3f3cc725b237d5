//go:build unix

package codec

import (
	"syscall"
	"time"
)

// cpuTime is what this process has used so far. Beside other work it says more than the time on the clock.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
