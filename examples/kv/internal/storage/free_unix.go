//go:build darwin || freebsd || linux

package storage

import "syscall"

// diskAlmostFull says whether the file system of path has less than a twentieth
// of its room left.
func diskAlmostFull(path string) bool {
	var st syscall.Statfs_t
	if err := syscall.Statfs(path, &st); err != nil {
		return false
	}
	return uint64(st.Bavail) < st.Blocks/20 //nolint:unconvert // the types differ from system to system
}
