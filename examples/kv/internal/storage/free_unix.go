//go:build darwin || freebsd || linux

package storage

import "syscall"

func (systemDisk) AlmostFull(dir string) bool {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return false
	}
	return uint64(st.Bavail) < st.Blocks/20 //nolint:unconvert // the types differ from system to system
}
