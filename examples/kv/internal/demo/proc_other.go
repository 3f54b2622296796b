//go:build !linux

package demo

import "syscall"

// procAttr is for Linux only: elsewhere, members survive a demo that is killed.
func procAttr() *syscall.SysProcAttr { return nil }
