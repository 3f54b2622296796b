package promise_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/chaos/promise"
	"github.com/seed-4d73690b/rafthttp/internal/faultpoint"
)

// TestExtras: what is drawn beside the dimensions of a seed is in some plans and not in others, and fault points only in a
// library that has them.
func TestExtras(t *testing.T) {
	const seeds = 400
	drawn := map[string]int{}
	for seed := range uint64(seeds) {
		p := promise.Draw(seed)
		for _, name := range p.On {
			drawn[name]++
		}
		require.Equal(t, slices.Contains(p.On, "sockets"), p.Sockets != promise.Buffers{})
		require.Equal(t, slices.Contains(p.On, "revocation"), p.Revokes)
		require.Equal(t, slices.Contains(p.On, "fault points"), p.Points)
	}
	for _, name := range []string{"sockets", "revocation"} {
		require.Greater(t, drawn[name], seeds/20, name)
		require.Less(t, drawn[name], seeds/2, name)
	}
	require.Equal(t, faultpoint.Enabled, drawn["fault points"] > seeds/3)
}

// TestScenesComeInTurn: a few seeds play each.
func TestScenesComeInTurn(t *testing.T) {
	all := promise.Scenes()
	played := map[string]int{}
	for seed := range uint64(len(all)) {
		for _, e := range promise.Draw(1000 + seed).Events {
			if e.Do == promise.Scene {
				played[e.How]++
			}
		}
	}
	for _, name := range all {
		require.GreaterOrEqual(t, played[name], 3, name)
	}
}
