package postgres

import "syscall"

// dieWithParent makes the kernel ask the server for a fast shutdown when promkeep dies, even by kill -9. The kernel
// ties this to the thread that started the child, so the starting goroutine stays locked to its thread for as long
// as the child lives.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGINT }
