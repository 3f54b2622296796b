//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd || windows)

package snap

import (
	"errors"
	"io"
)

func lockDir(string) (io.Closer, error) { return nil, errors.ErrUnsupported }
