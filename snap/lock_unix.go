//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package snap

import (
	"errors"
	"io"
	"os"
	"syscall"
)

// lockDir locks the directory itself, so that no file is left behind.
func lockDir(dir string) (io.Closer, error) {
	d, err := os.OpenFile(dir, os.O_RDONLY|syscall.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(d.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err == nil {
		return d, nil
	}
	d.Close()
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, ErrInUse
	}
	return nil, errors.ErrUnsupported // NFS requires a writable file: EBADF
}
