package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/seed-4d73690b/rafthttp/chaos/internal/network"
)

const (
	insideVariable = "CHAOS_INSIDE" // the folder of the trial, for the process that has namespaces of its own
	cannot         = 77             // its exit code if it cannot have all it needs
	diskBytes      = 128 << 20
)

// switched is members in network namespaces of their own, with small disks.
type switched struct{ *network.Switch }

func newSwitched(seed uint64) (*switched, error) {
	s, err := network.NewSwitch(size, seed)
	if err != nil {
		return nil, err
	}
	return &switched{s}, nil
}

func (s *switched) do(slot int, f func()) { s.Do(slot, f) }

func (s *switched) urls(slot int) (host, peer, client string) {
	host = s.Host(slot)
	return host, fmt.Sprintf("https://%s:%d", host, peerPort), fmt.Sprintf("http://%s:%d", host, clientPort)
}

func (s *switched) flags(int) []string              { return nil }
func (s *switched) link(from, to int) *network.Link { return s.Link(from, to) }
func (s *switched) packets() bool                   { return true }
func (s *switched) close() error                    { return s.Close() }

func (s *switched) counts() string {
	c := s.Count()
	return fmt.Sprintf("packets between members: %d passed (%d MiB), %d cut off, %d lost, %d dropped by full queues",
		c.Passed, c.Bytes>>20, c.Cut, c.Lost, c.Overflowed)
}

// disk mounts a small file system, which nobody outside of this process and its children sees.
func (s *switched) disk(dir string) (limited bool, err error) {
	if err := unix.Mount("chaos", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0700", diskBytes)); err != nil {
		return false, fmt.Errorf("mount a tmpfs: %w", err)
	}
	return true, nil
}

// inside returns the folder of the trial if this process has namespaces of its own, for it.
func inside() string { return os.Getenv(insideVariable) }

// enter runs this program again in network and mount namespaces of its own, and waits for it; as a user who is not root, in
// a user namespace too. ok is false if that is not to be had here.
func enter(ctx context.Context, dir string, seed uint64) (code int, ok bool, err error) {
	self, err := os.Executable()
	if err != nil {
		return 0, false, err
	}
	cmd := exec.CommandContext(ctx, self, append(os.Args[1:], fmt.Sprintf("-seed=%d", seed))...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), insideVariable+"="+dir)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // it cleans up
	runtime.LockOSThread()                                                   // the child ends with this thread
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	// That it was told to end is no error.
	if err = cmd.Run(); cmd.ProcessState == nil {
		return 0, false, err
	}
	if code = cmd.ProcessState.ExitCode(); code == cannot {
		return 0, false, errors.New("the namespaces lack something")
	}
	return code, true, nil
}
