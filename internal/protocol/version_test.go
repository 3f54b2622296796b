package protocol_test

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/internal/protocol"
)

func TestParseVersion(t *testing.T) {
	good := map[string][2]int{
		"0.0.0": {0, 0}, "3.7.0": {3, 7}, "3.7.12": {3, 7}, "10.20.30": {10, 20}, "2147483647.1.0": {1<<31 - 1, 1},
		"3.6.0-alpha.0": {3, 6}, "3.6.0+git": {3, 6}, "3.6.0-rc.1+git-1": {3, 6}, "3.6.0+a-b": {3, 6}, "3.6.0-": {3, 6},
	}
	for s, want := range good {
		v, err := protocol.ParseVersion(s)
		require.NoError(t, err, s)
		require.Equal(t, want, [2]int{v.Major, v.Minor}, s)
	}
	bad := []string{
		"", "3", "3.7", "3.7.0.0", "v3.7.0", "3.x.0", "3..0", ".7.0", "3.7.", "-3.7.0", "3.-7.0", "+3.7.0", "3.7.0 ", " 3.7.0", "3_0.7.0",
		"0x3.7.0", "2147483648.0.0", "99999999999999999999.0.0", "3.7.0-a b", "3.7.0-ä", "3.7.0+a+b", "3.7.0-a\r\nX: y", "3.7.0\x00",
		"3.7." + strings.Repeat("0", 200), "3.7.0-" + strings.Repeat("a", 200),
	}
	for _, s := range bad {
		_, err := protocol.ParseVersion(s)
		require.ErrorContains(t, err, "not a semantic version", s)
		require.Less(t, len(err.Error()), 700)
	}
}

var semanticVersion = regexp.MustCompile(`^([0-9]+)\.([0-9]+)\.([0-9]+)(-[0-9A-Za-z.-]*)?(\+[0-9A-Za-z.-]*)?$`)

// FuzzParseVersion compares with a regular expression.
func FuzzParseVersion(f *testing.F) {
	for _, s := range []string{"3.7.0", "3.6.0-rc.1+git", "", "3.7", "-1.0.0", "3.7.0\n", "00.01.2", "4294967296.0.0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v, err := protocol.ParseVersion(s)
		match := semanticVersion.FindStringSubmatch(s)
		want := match != nil && len(s) <= 128
		for i := 1; want && i <= 3; i++ {
			_, err := strconv.ParseUint(match[i], 10, 31)
			want = err == nil
		}
		require.Equal(t, want, err == nil, "%q: %v", s, err)
		if want {
			again, err := protocol.ParseVersion(fmt.Sprintf("%d.%d.0", v.Major, v.Minor))
			require.NoError(t, err)
			require.Equal(t, v, again)
		}
	})
}
