//go:build !(darwin || freebsd || linux)

package snap

import "errors"

func freeBytes(string) (int64, error) { return 0, errors.ErrUnsupported }
