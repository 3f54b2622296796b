package docs_test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// runs are the documents with commands, and what each needs beside Go.
var runs = map[string][]string{
	"getting-started.md": {"bash", "openssl", "curl"},
	"tls.md":             {"bash", "openssl"},

	"../examples/kv/README.md": {"bash"},
}

// runCommands runs the commands of a document, one after the other in one shell and an empty folder, after some replacements, and
// returns what they print, and the folder. If a program is missing it skips the test.
func runCommands(t *testing.T, document string, replace ...string) (printed, dir string) {
	t.Helper()
	for _, program := range runs[document] {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("the commands of %s are not run: %s is not installed", document, program)
		}
	}
	var script strings.Builder
	// Job control gives each background job a number, for %1.
	script.WriteString("set -euo pipefail\nset -m\ntrap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT\n")
	for _, b := range blocks(t, document) {
		if b.mark == "run" {
			script.WriteString(strings.Join(b.lines, "\n") + "\n")
		}
	}
	dir = t.TempDir()
	cmd := exec.CommandContext(t.Context(), "bash", "-c", strings.NewReplacer(replace...).Replace(script.String()))
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=-buildvcs=false")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		logs, _ := filepath.Glob(filepath.Join(dir, "*", "log*"))
		for _, l := range logs {
			t.Logf("%s:\n%s", l, read(t, l))
		}
	}
	require.NoError(t, err, "%s", out)
	return string(out), dir
}

// freePorts returns pairs for a replacer, which replace each port by one that is free now.
func freePorts(t *testing.T, ports ...string) (replace []string) {
	t.Helper()
	for _, p := range ports {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer ln.Close()
		replace = append(replace, p, strconv.Itoa(ln.Addr().(*net.TCPAddr).Port))
	}
	return replace
}

// TestGettingStarted does what the document tells a reader to do.
func TestGettingStarted(t *testing.T) {
	t.Parallel()
	example, err := filepath.Abs("../examples/start")
	require.NoError(t, err)
	replace := freePorts(t, "2201", "2202", "2203", "8001", "8002", "8003")
	out, _ := runCommands(t, "getting-started.md", append(replace, "../examples/start", example)...)
	for _, want := range []string{"world\n", `etcd_network_active_peers{Local="1",Remote="2"} 1`, "moon\n"} {
		require.Contains(t, out, want)
	}
}

// TestKV does what the README of examples/kv tells a reader to do.
func TestKV(t *testing.T) {
	t.Parallel()
	example, err := filepath.Abs("../examples/kv")
	require.NoError(t, err)
	replace := freePorts(t, "2201", "2202", "2203", "2204", "2101", "2102", "2103", "2104")
	out, _ := runCommands(t, "../examples/kv/README.md", append(replace, "go build .", `go build -C "`+example+`" -o "$PWD/kv" .`)...)
	require.Contains(t, out, "world")
}
