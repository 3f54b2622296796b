package main

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestDemo: the demo does all that it says.
func TestDemo(t *testing.T) {
	var out strings.Builder
	require.NoError(t, demo(t.Context(), &out, 100*time.Millisecond))
	require.Equal(t, 6, strings.Count(out.String(), "\n"), out.String())
	t.Log(out.String())
}
