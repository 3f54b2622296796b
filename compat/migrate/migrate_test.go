// Package migrate_test holds docs/migrating-from-etcd.md to a program before and after: the difference in the document is
// theirs, and members of both make one cluster.
package migrate_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	after "github.com/seed-4d73690b/rafthttp/compat/migrate/after"
	before "github.com/seed-4d73690b/rafthttp/compat/migrate/before"
)

// TestDiff: the document has the difference between the two, as git shows it.
func TestDiff(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "git", "diff", "--no-index", "--no-color", "--no-ext-diff", "-U1",
		"before/raft.go", "after/raft.go").Output()
	failed := (*exec.ExitError)(nil)
	require.True(t, err != nil && errors.As(err, &failed) && failed.ExitCode() == 1, "git: %v", err)
	_, hunks, ok := strings.Cut(string(out), "\n@@")
	require.True(t, ok)

	document, err := os.ReadFile("../../docs/migrating-from-etcd.md")
	require.NoError(t, err)
	_, rest, _ := strings.Cut(string(document), "```diff\n")
	shown, _, _ := strings.Cut(rest, "```")
	require.Equal(t, lines("@@"+hunks), lines(shown))
}

// lines leaves out numbers of lines, and white space at their ends.
func lines(text string) (all []string) {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "@@") {
			line = "@@"
		}
		all = append(all, strings.TrimRight(line, " \t\n"))
	}
	return all
}

// TestBeforeAndAfterMakeOneCluster: member 1 has not been migrated yet.
func TestBeforeAndAfterMakeOneCluster(t *testing.T) {
	var peers []string
	for range 3 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		peers = append(peers, "http://"+ln.Addr().String())
		require.NoError(t, ln.Close())
	}
	var proposals [3]chan string
	var commits [3]<-chan string
	var ended [3]<-chan error
	for i, start := range []func(int, []string, string, <-chan string) (<-chan string, <-chan error){before.New, after.New, after.New} {
		proposals[i] = make(chan string)
		commits[i], ended[i] = start(i+1, peers, t.TempDir(), proposals[i])
	}
	for i, p := range proposals {
		text := fmt.Sprintf("of member %d", i+1)
		p <- text
		for _, c := range commits {
			awaitCommit(c, text, p)
		}
	}
	for i, p := range proposals {
		close(p)
		require.NoError(t, <-ended[i])
	}
}

// awaitCommit waits until text is committed. raft loses a proposal that finds no leader: it is made again now and then, so it may be
// committed twice.
func awaitCommit(commits <-chan string, text string, proposals chan<- string) {
	for {
		select {
		case got := <-commits:
			if got == text {
				return
			}
		case <-time.After(2 * time.Second):
			proposals <- text
		}
	}
}
