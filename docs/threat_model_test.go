package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// sources returns the text of all files that match the patterns.
func sources(t *testing.T, patterns ...string) string {
	t.Helper()
	var all strings.Builder
	for _, p := range patterns {
		files, err := filepath.Glob(p)
		require.NoError(t, err)
		require.NotEmpty(t, files)
		for _, f := range files {
			text, err := os.ReadFile(f)
			require.NoError(t, err)
			all.Write(text)
		}
	}
	return all.String()
}

// TestThreatModel: every test and every attack that docs/threat-model.md names is
// there, and its numbers are those of the constants it names.
func TestThreatModel(t *testing.T) {
	text, err := os.ReadFile("threat-model.md")
	require.NoError(t, err)
	tests := sources(t, "../*_test.go", "../*/*_test.go", "../internal/*/*_test.go", "../tests/*/*_test.go")
	named := regexp.MustCompile("`(Test\\w+)(?:/([^`]+))?`").FindAllStringSubmatch(string(text), -1)
	require.Greater(t, len(named), 40)
	for _, n := range named {
		require.Contains(t, tests, "func "+n[1]+"(")
		if n[2] != "" {
			require.Contains(t, tests, `{"`+n[2]+`", `, n[0])
		}
	}

	for _, n := range []struct{ constant, value, said string }{
		{"maxConnsPerAddress", "256", "256 an address"},
		{"maxConns", "2048", "2048 in all"},
		{"maxHandshakesPerAddress", "32", "32 an address"},
		{"maxHandshakes", "256", "256 in all, 10 s"},
		{"maxRequestHeadBytes", "64 << 10", "64 KiB in size"},
		{"MaxPeerURLsBytes", "8 << 10", "8 KiB, 32 URLs"},
		{"MaxPeerURLs", "32", "8 KiB, 32 URLs"},
		{"maxPostsPerMember", "16", "16 a member"},
		{"maxPosts", "256", "256 in all that are read, and 256 of each kind"},
		{"minPostRate", "16 << 10", "16 KiB a second"},
		{"postBytesPart", "4", "a quarter of"},
		{"keptEntry", "1 << 10", "from 1 KiB on"},
		{"keptBuffer", "32 << 10", "of 32 KiB at most"},
		{"handoverGrace", "500 * time.Millisecond", "half a second"},
		{"maxRemotes", "128", "| 128, 10 minutes"},
		{"remoteLifetime", "10 * time.Minute", "| 128, 10 minutes"},
		{"MaxHeadBytes", "64 << 20", "a head of 64 MiB"},
		{"MaxAnswerBytes", "64 << 10", "64 KiB of head"},
		{"maxRefusals", "64", "64 refusals a minute"},
		{"MemberLines", "10", "10 times a minute"},
	} {
		require.Contains(t, string(text), "`"+n.constant+"`")
		require.Contains(t, string(text), n.said, n.constant)
		declared := regexp.MustCompile(`(?m)^\s*(?:const )?` + n.constant + `\s+= (.*?)(?:\s+//.*)?$`)
		found := declared.FindStringSubmatch(sources(t, "../*.go", "../internal/*/*.go"))
		require.NotNil(t, found, n.constant)
		require.Equal(t, n.value, found[1], n.constant)
	}
}
