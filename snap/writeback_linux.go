//go:build !arm

package snap

import (
	"os"
	"syscall"
)

const syncFileRangeWrite = 2 // of sync_file_range(2)

// startWriteback tells the system to start writing the n bytes from offset at, and does not wait. Errors are ignored:
// the sync of the file reports them.
func startWriteback(f *os.File, at, n int64) {
	_ = control(f, func(fd int) error { return syscall.SyncFileRange(fd, at, n, syncFileRangeWrite) })
}
