//go:build !linux || !(amd64 || arm64)

package bench

import (
	"errors"
	"syscall"
)

func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// dropCaches makes the kernel forget the contents of all files under dir, where there is a way.
func dropCaches(string) error { return errors.New("there is no posix_fadvise on this system") }
