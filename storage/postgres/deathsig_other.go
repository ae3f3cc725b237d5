//go:build !linux

package postgres

import "syscall"

// dieWithParent does nothing where the kernel has no such signal: a server that outlives promkeep is stopped by the
// next start.
func dieWithParent(*syscall.SysProcAttr) {}
