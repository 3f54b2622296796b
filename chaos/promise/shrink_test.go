package promise_test

import (
	"go/parser"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/chaos/promise"
)

// TestShrink: what a failure does not need is taken out, however it is spread.
func TestShrink(t *testing.T) {
	for seed := range uint64(20) {
		p := promise.Draw(seed)
		p.Members = append(p.Members, make([]promise.Options, 5)...)
		p.Members[1].SendQueue = 16
		needed := []promise.Event{{At: time.Second, Do: promise.Reset, A: 1, B: 2}, {At: 3 * time.Second, Do: promise.HangLog, A: 2, For: time.Second}}
		p.Events = slices.Concat(needed[:1], p.Events, needed[1:], p.Events)
		calls := 0
		got := promise.Shrink(p, 3, func(q promise.Plan) bool {
			calls++
			return q.Members[1].SendQueue == 16 && slices.Contains(q.Events, needed[0]) && slices.Contains(q.Events, needed[1])
		})
		want := promise.Plan{
			Seed: seed, Length: 5 * time.Second, Members: []promise.Options{{}, {SendQueue: 16}}, Events: needed,
		}
		require.Equal(t, want.String(), got.String())
		require.Less(t, calls, 500)
	}
}

// TestShrinkTriesAgain: a plan that fails now and then is not taken for one that does not.
func TestShrinkTriesAgain(t *testing.T) {
	calls := 0
	got := promise.Shrink(promise.Draw(1), 3, func(promise.Plan) bool {
		calls++
		return calls%3 == 0
	})
	require.Empty(t, got.Events)
	require.Len(t, got.Members, 2)
}

// TestPlanIsGo: a plan prints as Go, the shortest as a test of at most ten lines.
func TestPlanIsGo(t *testing.T) {
	for seed := range uint64(200) {
		for _, p := range []promise.Plan{promise.Draw(seed), promise.DrawStar(seed, 50)} {
			_, err := parser.ParseExpr(p.String())
			require.NoError(t, err, "%v", p)
		}
	}
	p := promise.Plan{
		Seed: 1, Length: 1500 * time.Millisecond, Members: make([]promise.Options, 2),
		Events: []promise.Event{{At: time.Second, Do: promise.Cut, A: 1, B: 2, For: time.Second}},
	}
	require.LessOrEqual(t, strings.Count(goTest(p, "order"), "\n"), 9)
	require.Equal(t, `promise.Plan{Seed: 1, Length: 1500 * time.Millisecond,
	Members: make([]promise.Options, 2),
	Events: []promise.Event{
		{At: 1 * time.Second, Do: "cut", A: 1, B: 2, For: 1 * time.Second}}}`, p.String())
}

// TestDrawIsRepeatable: a seed decides the plan.
func TestDrawIsRepeatable(t *testing.T) {
	for seed := range uint64(50) {
		require.Equal(t, promise.Draw(seed).String(), promise.Draw(seed).String())
	}
	require.NotEqual(t, promise.Draw(1).String(), promise.Draw(2).String())
}
