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

// TestShrinkGoesInto: what is not needed of a field, a life or a member in the middle goes, and times are short.
func TestShrinkGoesInto(t *testing.T) {
	p := promise.Plan{
		Length: time.Minute, Members: make([]promise.Options, 4), Load: promise.Load{Appends: 1, Proposals: 2, Size: 3},
		Sockets: promise.Buffers{Send: 1, Receive: 2}, NoDial: []promise.Way{{From: 1, To: 2}, {From: 4, To: 1, Hangs: true}},
		Events: []promise.Event{
			{At: 20 * time.Second, Do: promise.End, A: 4, For: 30 * time.Second, Life: promise.Options{Saver: "plain", Stock: true}},
			{At: 25 * time.Second, Do: promise.Snapshot, A: 1, B: 4, N: 5},
			{At: 26 * time.Second, Do: promise.Snapshot, A: 1, B: 999, N: 5},
		},
	}
	p.Members[3].Torn = true
	got := promise.Shrink(p, 1, func(q promise.Plan) bool {
		last := uint64(len(q.Members))
		of := func(do promise.Action, b uint64) *promise.Event {
			i := slices.IndexFunc(q.Events, func(e promise.Event) bool { return e.Do == do && e.B == b })
			if i < 0 {
				return &promise.Event{}
			}
			return &q.Events[i]
		}
		end := of(promise.End, 0)
		return q.Members[last-1].Torn && q.Load.Size == 3 && end.A == last && end.Life.Stock && end.For >= 7*time.Second &&
			of(promise.Snapshot, last).At >= end.At+time.Second && of(promise.Snapshot, 999).A == 1 &&
			slices.Contains(q.NoDial, promise.Way{From: last, To: 1, Hangs: true})
	})
	require.Equal(t, `promise.Plan{Length: 9500 * time.Millisecond,
	Members: []promise.Options{{}, {Torn: true}}, NoDial: []promise.Way{{From: 2, To: 1, Hangs: true}}, Load: promise.Load{Size: 3},
	Events: []promise.Event{
		{At: 1 * time.Second, Do: "end", A: 2, For: 7500 * time.Millisecond, Life: promise.Options{Stock: true}},
		{At: 2 * time.Second, Do: "snapshot", A: 1, B: 2},
		{At: 3 * time.Second, Do: "snapshot", A: 1, B: 999}}}`, got.String())
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
	require.NotContains(t, got.String(), "Event")
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
