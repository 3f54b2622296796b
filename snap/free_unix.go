//go:build darwin || freebsd || linux

package snap

import (
	"errors"
	"math"
	"os"
	"syscall"
)

// freeBytes returns how much this process can still write to the file system of dir. Root may use its
// reserved blocks.
func freeBytes(dir string) (int64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, err
	}
	if st.Blocks == 0 || st.Bsize <= 0 { // ramfs, and other file systems that do not count
		return 0, errors.ErrUnsupported
	}
	free, size := int64(st.Bavail), int64(st.Bsize) //nolint:unconvert // the types differ from system to system
	if os.Geteuid() == 0 {
		free = int64(st.Bfree)
	}
	if free > math.MaxInt64/size {
		return math.MaxInt64, nil
	}
	return free * size, nil
}
