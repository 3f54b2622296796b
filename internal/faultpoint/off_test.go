//go:build !faultpoints

package faultpoint_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/internal/faultpoint"
)

const pkg = "github.com/seed-4d73690b/rafthttp/internal/faultpoint"

func TestNothingHappensWithoutTheTag(t *testing.T) {
	const enabled = faultpoint.Enabled // a constant
	require.False(t, enabled)
	faultpoint.Seed(1)
	for range 10_000 {
		faultpoint.Hit(faultpoint.StreamAttach)
		require.False(t, faultpoint.Fails(faultpoint.QueueReservation))
		require.Len(t, faultpoint.Torn(faultpoint.TLSFileRead, []byte("abc")), 3)
	}
	require.Nil(t, faultpoint.Hits())
	require.Nil(t, faultpoint.Faults())
}

// TestNothingIsCompiledIn looks at what the packages with fault points are compiled to: without the tag there is no
// reference to this one, and with it there is, so that this test would see one.
func TestNothingIsCompiledIn(t *testing.T) {
	if testing.Short() {
		t.Skip("it may have to compile")
	}
	for _, of := range []string{"../..", "../snapshot", "../groups", "../wire", "../../snap"} {
		require.Empty(t, references(t, of), of)
		require.NotEmpty(t, references(t, of, "-tags=faultpoints"), of)
	}
}

// references returns the functions and variables of this package that a compiled one refers to.
func references(t *testing.T, folder string, flags ...string) (all []string) {
	t.Helper()
	list := append([]string{"list", "-export", "-f", "{{.Export}}"}, append(flags, folder)...)
	object, err := exec.CommandContext(t.Context(), "go", list...).Output()
	require.NoError(t, err)
	symbols, err := exec.CommandContext(t.Context(), "go", "tool", "nm", strings.TrimSpace(string(object))).Output()
	require.NoError(t, err)
	require.Contains(t, string(symbols), "rafthttp", "no symbols in %s", object)
	for line := range strings.Lines(string(symbols)) {
		field := strings.Fields(line)
		if symbol := field[len(field)-1]; strings.HasPrefix(symbol, pkg+".") && !strings.HasSuffix(symbol, "..inittask") {
			all = append(all, symbol)
		}
	}
	return all
}
