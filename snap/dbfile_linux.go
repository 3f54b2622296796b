package snap

import (
	"errors"
	"os"
	"syscall"
)

const fallocKeepSize = 1 // of fallocate(2)

// preallocate allocates blocks of f for the n bytes from offset at, without changing its size. The error is
// errors.ErrUnsupported if the file system cannot.
func preallocate(f *os.File, at, n int64) error {
	return control(f, func(fd int) error {
		for {
			err := syscall.Fallocate(fd, fallocKeepSize, at, n)
			switch {
			case errors.Is(err, syscall.EINTR):
			case errors.Is(err, syscall.EINVAL), errors.Is(err, syscall.EPERM):
				return errors.ErrUnsupported
			default:
				return err // of these, EOPNOTSUPP and ENOSYS are errors.ErrUnsupported
			}
		}
	})
}

func control(f *os.File, do func(fd int) error) error {
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := c.Control(func(fd uintptr) { failed = do(int(fd)) }); err != nil {
		return err
	}
	return failed
}
