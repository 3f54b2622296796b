package wallclock_test

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/chaos/internal/wallclock"
)

// What is printed for each line of input: how wrong the clock is, by the caller's, and how long ago the start was.
const program = `package main

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"time"
)

func main() {
	start := time.Now()
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		theirs, _ := strconv.ParseInt(in.Text(), 10, 64)
		fmt.Println(time.Now().UnixNano()-theirs, int64(time.Since(start)))
	}
}
`

// start compiles a program whose clock can be set, and starts it. It ends with the test.
func start(t *testing.T, source string) (clock *wallclock.Clock, pid int, in io.Writer, answers *bufio.Scanner) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("for Linux")
	}
	dir := t.TempDir()
	overlay, err := wallclock.Overlay(dir)
	require.NoError(t, err)
	binary := filepath.Join(dir, "main")
	out, err := exec.Command("go", "build", "-overlay", overlay, "-o", binary, source).CombinedOutput()
	require.NoError(t, err, string(out))
	clock, err = wallclock.Find(binary)
	require.NoError(t, err)
	cmd := exec.Command(binary)
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		require.NoError(t, stdin.Close())
		require.NoError(t, cmd.Wait())
	})
	return clock, cmd.Process.Pid, stdin, bufio.NewScanner(stdout)
}

func TestSet(t *testing.T) {
	source := filepath.Join(t.TempDir(), "main.go")
	require.NoError(t, os.WriteFile(source, []byte(program), 0o600))
	clock, pid, in, scanner := start(t, source)
	began := time.Now()
	for _, offset := range []time.Duration{0, 36 * time.Hour, -90 * time.Minute, 1500 * time.Millisecond, -time.Nanosecond, 0} {
		require.NoError(t, clock.Set(pid, offset))
		asked := time.Now()
		_, err := in.Write([]byte(strconv.FormatInt(asked.UnixNano(), 10) + "\n"))
		require.NoError(t, err)
		require.True(t, scanner.Scan())
		wrong, age, ok := strings.Cut(scanner.Text(), " ")
		require.True(t, ok)
		off, err := strconv.ParseInt(wrong, 10, 64)
		require.NoError(t, err)
		require.GreaterOrEqual(t, time.Duration(off), offset)
		require.LessOrEqual(t, time.Duration(off), offset+time.Since(asked))
		since, err := strconv.ParseInt(age, 10, 64)
		require.NoError(t, err)
		require.LessOrEqual(t, time.Duration(since), time.Since(began)+time.Minute) // the program is older than that, by a little
	}
}

func TestFindOtherPrograms(t *testing.T) {
	self, err := os.Executable()
	require.NoError(t, err)
	_, err = wallclock.Find(self)
	require.Error(t, err)
	_, err = wallclock.Find(filepath.Join(t.TempDir(), "none"))
	require.Error(t, err)
}
