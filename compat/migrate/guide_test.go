package migrate_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func guide(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/migrating-from-raft-3.5.md")
	require.NoError(t, err)
	return string(text)
}

// TestGuide: the differences in the guide are those between the programs, and none of these is missing.
func TestGuide(t *testing.T) {
	var whole []string // with the whole of each file as context
	changed := map[string]string{}
	for _, name := range []string{"main.go", "node.go", "state.go"} {
		out, _ := exec.CommandContext(t.Context(), "git", "diff", "--no-index", "--no-color", "--no-ext-diff", "-U9999",
			filepath.Join("raft35", name), filepath.Join("raft37", name)).Output()
		_, text, ok := strings.Cut(string(out), "\n@@")
		require.True(t, ok, name)
		all := lines("@@" + text)
		whole = append(whole, strings.Join(all, "\n"))
		for _, line := range all {
			if strings.HasPrefix(line, "-") || strings.HasPrefix(line, "+") {
				changed[line] = name
			}
		}
	}
	shown := 0
	for i, part := range strings.Split(guide(t), "```diff\n") {
		if i == 0 {
			continue
		}
		block, _, _ := strings.Cut(part, "```")
		for hunk := range strings.SplitSeq(block, "@@\n") {
			all := lines(hunk)
			text := strings.Join(all, "\n")
			require.Condition(t, func() bool {
				for _, w := range whole {
					if strings.Contains(w+"\n", "\n"+text+"\n") {
						return true
					}
				}
				return false
			}, "is not in the difference between the programs:\n%s", text)
			for _, line := range all {
				delete(changed, line)
				shown++
			}
		}
	}
	require.Greater(t, shown, 100)
	for line := range changed {
		if strings.HasPrefix(line[1:], "//") || line == "+" || line == "-" {
			delete(changed, line) // comments that name the programs, and empty lines
		}
	}
	require.Empty(t, changed, "are not in the guide")
}
