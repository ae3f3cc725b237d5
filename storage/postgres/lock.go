package postgres

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// ErrLocked is what Start's error wraps when another promkeep uses the data directory.
var ErrLocked = errors.New("the data directory is in use by another promkeep")

// dirLock is an advisory lock that the kernel drops when the process ends, however it ends.
type dirLock struct{ file *os.File }

// lockDir takes the lock file, or fails at once, naming the process that holds it. The file stays behind on unlock:
// removing it would let two processes hold locks on two files of the same name.
func lockDir(path string) (*dirLock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("locking %s: %w", path, err)
		}
		holder := "of unknown process ID"
		if b, err := io.ReadAll(io.LimitReader(f, 32)); err == nil {
			if pid, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
				holder = fmt.Sprintf("with process ID %d", pid)
			}
		}
		return nil, fmt.Errorf("%w %s (%s is locked): stop it, or choose another data directory", ErrLocked, holder, path)
	}
	if err := f.Truncate(0); err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
		if err != nil {
			f.Close()
			return nil, err
		}
	}
	return &dirLock{file: f}, nil
}

func (l *dirLock) unlock() error { return l.file.Close() }
