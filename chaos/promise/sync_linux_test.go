package promise_test

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed-4d73690b/rafthttp/snap"
)

// syncOf says whose sync fails, in a process of its own: that of the file, or of the directory.
const syncOf = "PROMISE_SYNC"

// TestPromisesOfSyncs: a database is durable once it is saved. What is not durable yet cannot be seen, but a sync that is
// left out cannot fail: in processes in which the system lets it fail, nothing may be saved.
func TestPromisesOfSyncs(t *testing.T) {
	for _, of := range []string{"file", "directory"} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestSyncThatFails$", "-test.v")
		cmd.Env = append(os.Environ(), syncOf+"="+of)
		if output, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("sync: a database is saved although its %s was not synced (after 0s)\n%s", of, output)
		} else if strings.Contains(string(output), "--- SKIP") {
			t.Logf("the system lets no sync fail:\n%s", output)
		}
	}
}

// TestSyncThatFails is what the processes run.
func TestSyncThatFails(t *testing.T) {
	of := os.Getenv(syncOf)
	if of == "" {
		t.Skip("syncs fail from then on")
	}
	dir := t.TempDir()
	spare, err := os.Create(filepath.Join(t.TempDir(), "spare")) // whose descriptor is the lowest, once it is closed
	require.NoError(t, err)
	store, err := snap.Open(dir)
	require.NoError(t, err)
	defer store.Close()
	db := &failingAtEnd{Reader: bytes.NewReader(make([]byte, 1000)), end: func() {
		fd := int(spare.Fd())
		if of == "file" {
			fd = descriptorOf(t, dir)
		}
		require.NoError(t, spare.Close()) // the directory, which is opened next, gets it
		if err := failSync(fd); err != nil {
			t.Skipf("no filter of system calls: %v", err)
		}
	}}
	_, err = store.SaveDBFrom(db, 1)
	require.ErrorIs(t, err, syscall.EIO)
}

// failingAtEnd calls end before it shows its end.
type failingAtEnd struct {
	*bytes.Reader
	end func()
}

// Read implements io.Reader.
func (f *failingAtEnd) Read(p []byte) (int, error) {
	n, err := f.Reader.Read(p)
	if err == io.EOF {
		f.end()
	}
	return n, err
}

// Len hides that of bytes.Reader: a length that is not known has the reader be read to its end.
func (f *failingAtEnd) Len() int64 { return -1 }

// descriptorOf returns the descriptor of the temporary file in a folder.
func descriptorOf(t *testing.T, dir string) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	for _, e := range entries {
		path, _ := os.Readlink("/proc/self/fd/" + e.Name())
		if strings.HasPrefix(path, dir) && strings.HasSuffix(path, ".tmp") {
			fd, err := strconv.Atoi(e.Name())
			require.NoError(t, err)
			return fd
		}
	}
	t.Fatal("there is no temporary file")
	return 0
}

// failSync has the system answer EIO to each fsync of a descriptor, from now on, in all threads.
func failSync(fd int) error {
	const number, argument = 0, 16 // in struct seccomp_data; the lower half of the argument, in little endian
	const errnoEIO = 0x00050000 | uint32(unix.EIO)
	const allow = 0x7fff0000
	load := func(at uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at}
	}
	unless := func(value uint32, skip uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: skip, K: value}
	}
	filter := []unix.SockFilter{
		load(number), unless(unix.SYS_FSYNC, 3),
		load(argument), unless(uint32(fd), 1),
		{Code: unix.BPF_RET | unix.BPF_K, K: errnoEIO},
		{Code: unix.BPF_RET | unix.BPF_K, K: allow},
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	const setFilter, allThreads = 1, 1
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, setFilter, allThreads, uintptr(unsafe.Pointer(&program))); errno != 0 {
		return errno
	}
	return nil
}
