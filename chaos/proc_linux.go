package main

import "syscall"

// procAttr has a member killed when this process dies in a way that it cannot clean up after, and keeps a Ctrl-C in the
// terminal from the members.
func procAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
