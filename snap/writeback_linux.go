//go:build !arm

package snap

import (
	"os"
	"syscall"
)

const syncFileRangeWrite = 2 // of sync_file_range(2)

// startWriteback has the system begin to write the n bytes from offset at, and does not wait for it. That is a wish:
// what fails comes up when the file is synced.
func startWriteback(f *os.File, at, n int64) {
	_ = control(f, func(fd int) error { return syscall.SyncFileRange(fd, at, n, syncFileRangeWrite) })
}
