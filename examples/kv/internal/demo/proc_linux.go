package demo

import "syscall"

// procAttr has a member killed when the demo dies in a way that it cannot clean
// up after, and keeps a Ctrl-C in the terminal from the members: that is for
// the demo to handle.
func procAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
