package operating_test

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/internal/health"
)

// TestKindsAreExplained: docs/operating.md has every kind of problem and no other, and the section that a problem of it names.
func TestKindsAreExplained(t *testing.T) {
	text, err := os.ReadFile("../../docs/operating.md")
	require.NoError(t, err)
	_, section, found := strings.Cut(string(text), "\n### Health\n")
	require.True(t, found)
	section, _, _ = strings.Cut(section, "\n### ")
	var explained []string
	for line := range strings.Lines(section) {
		if cells := strings.Split(line, "|"); len(cells) > 4 {
			for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cells[1], -1) {
				explained = append(explained, m[1])
			}
		}
	}
	require.ElementsMatch(t, slices.Collect(maps.Keys(health.Kinds)), explained)
	anchors := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(string(text), -1) {
		anchors[strings.ReplaceAll(strings.ToLower(m[1]), " ", "-")] = true
	}
	for kind, anchor := range health.Kinds {
		require.True(t, anchors[anchor], "%s: no section %s", kind, anchor)
	}
}
