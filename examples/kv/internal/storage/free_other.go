//go:build !darwin && !freebsd && !linux

package storage

func (systemDisk) AlmostFull(string) bool { return false } // it is not known
