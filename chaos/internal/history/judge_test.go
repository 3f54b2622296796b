package history_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/chaos/internal/history"
)

func op(kind history.Kind, call, ret int, outcome history.Outcome) history.Op {
	return history.Op{Kind: kind, Key: "k", Call: time.Duration(call), Return: time.Duration(ret), Outcome: outcome}
}

func write(value string, call, ret int) history.Op {
	o := op(history.Write, call, ret, history.Done)
	o.Value = value
	return o
}

func lost(o history.Op, outcome history.Outcome) history.Op {
	o.Outcome = outcome
	return o
}

func read(found string, call, ret int) history.Op {
	o := op(history.Read, call, ret, history.Done)
	o.Found = found
	return o
}

func swap(expect, value string, call, ret int) history.Op {
	o := op(history.Swap, call, ret, history.Done)
	o.Expect, o.Value = expect, value
	return o
}

func differs(expect, value, found string, call, ret int) history.Op {
	o := lost(swap(expect, value, call, ret), history.Differs)
	o.Found = found
	return o
}

func TestJudge(t *testing.T) {
	type ops = []history.Op
	notLinearizable := "not linearizable"
	for name, c := range map[string]struct {
		wrong   string
		checked int
		ops     ops
	}{
		"nothing":                        {"", 0, nil},
		"in order":                       {"", 4, ops{write("a", 1, 2), read("a", 3, 4), swap("a", "b", 5, 6), read("b", 7, 8)}},
		"at once, one way":               {"", 3, ops{write("a", 1, 5), write("b", 1, 5), read("a", 6, 7)}},
		"at once, the other way":         {"", 3, ops{write("a", 1, 5), write("b", 1, 5), read("b", 6, 7)}},
		"at once, both ways":             {notLinearizable, 4, ops{write("a", 1, 5), write("b", 1, 5), read("b", 6, 7), read("a", 8, 9)}},
		"an acknowledged write is lost":  {notLinearizable, 2, ops{write("a", 1, 2), read("", 3, 4)}},
		"lost, for the one before":       {notLinearizable, 3, ops{write("a", 1, 2), write("b", 3, 4), read("a", 5, 6)}},
		"lost, as a swap finds":          {notLinearizable, 2, ops{write("a", 1, 2), differs("a", "b", "", 3, 4)}},
		"a stale read":                   {notLinearizable, 3, ops{write("a", 1, 2), write("b", 3, 4), read("a", 5, 6)}},
		"a read of the future":           {notLinearizable, 2, ops{read("a", 1, 2), write("a", 3, 4)}},
		"a swap of what is not there":    {notLinearizable, 2, ops{write("a", 1, 2), swap("", "b", 3, 4)}},
		"two swaps of the same":          {notLinearizable, 3, ops{write("a", 1, 2), swap("a", "b", 3, 9), swap("a", "c", 3, 9)}},
		"a swap that differs":            {"", 3, ops{write("a", 1, 2), differs("x", "b", "a", 3, 4), read("a", 5, 6)}},
		"a swap that had no reason to":   {notLinearizable, 2, ops{write("a", 1, 2), differs("a", "b", "", 3, 4)}},
		"written twice by the store":     {notLinearizable, 4, ops{write("a", 1, 2), write("b", 3, 4), read("b", 5, 6), read("a", 7, 8)}},
		"unknown, and seen":              {"", 2, ops{lost(write("a", 1, 2), history.Unknown), read("a", 9, 10)}},
		"unknown, and seen before":       {"found before it was written", 0, ops{read("a", 1, 2), lost(write("a", 3, 4), history.Unknown)}},
		"unknown, and not seen":          {"", 1, ops{lost(write("a", 1, 2), history.Unknown), read("", 9, 10)}},
		"unknown, seen and gone":         {notLinearizable, 3, ops{lost(write("a", 1, 2), history.Unknown), read("a", 3, 4), read("", 5, 6)}},
		"unknown, between two reads":     {"", 3, ops{lost(write("a", 1, 2), history.Unknown), read("", 3, 4), read("a", 5, 6)}},
		"unknown, seen by a swap":        {"", 2, ops{lost(write("a", 1, 2), history.Unknown), swap("a", "b", 3, 4)}},
		"an unknown swap that did it":    {"", 3, ops{write("a", 1, 2), lost(swap("a", "b", 3, 4), history.Unknown), read("b", 5, 6)}},
		"an unknown swap that could not": {notLinearizable, 4, ops{write("a", 1, 2), write("c", 3, 4), lost(swap("a", "b", 5, 6), history.Unknown), read("b", 7, 8)}},
		"refused, and not seen":          {"", 1, ops{lost(write("a", 1, 2), history.Refused), read("", 3, 4)}},
		"refused, and done":              {"nobody has written it", 0, ops{lost(write("a", 1, 2), history.Refused), read("a", 3, 4)}},
		"a value out of nowhere":         {"nobody has written it", 0, ops{read("a", 1, 2)}},
		"a value of another key":         {"nobody has written it", 0, ops{read("a", 1, 2), {Key: "z", Kind: history.Write, Value: "a", Outcome: history.Done}}},
		"a read that says nothing":       {"", 1, ops{write("a", 1, 2), lost(read("", 3, 4), history.Refused)}},
		"a test that is wrong":           {"the test is wrong", 0, ops{write("a", 1, 2), write("a", 3, 4)}},
	} {
		t.Run(name, func(t *testing.T) {
			checked, v := history.Judge(c.ops, time.Minute)
			require.Equal(t, c.checked, checked)
			if c.wrong == "" {
				require.Nil(t, v)
				return
			}
			require.NotNil(t, v)
			require.ErrorContains(t, v, "key k: ")
			require.ErrorContains(t, v, c.wrong)
		})
	}
}

func TestLate(t *testing.T) {
	swapped := func(expect, value string) history.Op { return lost(swap(expect, value, 1, 2), history.Unknown) }
	other := lost(write("f", 1, 2), history.Unknown)
	other.Key = "z"
	late := history.Late([]history.Op{
		write("a", 1, 2), lost(write("b", 3, 4), history.Unknown), lost(write("c", 3, 4), history.Unknown), lost(write("d", 3, 4), history.Refused),
		swapped("e", "m"), swapped("a", "e"), swapped("c", "h"), swapped("b", "i"), swapped("x", "j"), swapped(history.None, "l"),
		other, read("b", 5, 6), differs("c", "g", "a", 7, 8),
	}, map[string]string{"k": "a"})
	require.ElementsMatch(t, []string{"c", "e", "h", "m"}, late["k"], "b was seen, a and d have an end, and the value that others replace does not come again")
	require.Equal(t, []string{"f"}, late["z"])
	require.Len(t, late, 2)
	late = history.Late([]history.Op{swapped(history.None, "l")}, nil)
	require.Equal(t, map[string][]string{"k": {"l"}}, late, "the key has no value")
}

// store is a register that does what it should.
type store struct {
	mu    sync.Mutex
	value string
}

func (s *store) do(o *history.Op) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case o.Kind == history.Read:
		o.Found = s.value
		return
	case o.Kind == history.Swap && o.Expect != s.value:
		o.Outcome, o.Found = history.Differs, s.value
		return
	}
	s.value = o.Value
}

// run has eight clients do some hundred operations each on one key, a tenth of them without an answer. If it is told to,
// the store then acknowledges one more write, and does not carry it out.
func run(forget bool) []history.Op {
	s, log := &store{}, history.NewLog()
	var wg sync.WaitGroup
	for c := range 8 {
		wg.Go(func() {
			r, last := rand.New(rand.NewPCG(1, uint64(c))), history.None
			for i := range 250 {
				o := history.Op{Client: c, Key: "k", Outcome: history.Done, Call: log.Now()}
				o.Kind = []history.Kind{history.Read, history.Write, history.Swap}[r.IntN(3)]
				if o.Kind != history.Read {
					o.Value = fmt.Sprintf("%d.%d", c, i)
				}
				if o.Kind == history.Swap {
					o.Expect = last
				}
				s.do(&o)
				o.Return = log.Now()
				switch {
				case r.IntN(10) > 0:
					last = o.Found
				case o.Kind == history.Read:
					o.Outcome, o.Found = history.Refused, ""
				default:
					o.Outcome, o.Found = history.Unknown, ""
				}
				log.Add(o)
			}
		})
	}
	wg.Wait()
	if forget {
		log.Add(history.Op{Key: "k", Kind: history.Write, Value: "forgotten", Outcome: history.Done, Call: log.Now(), Return: log.Now()})
	}
	// What is there in the end is part of the history.
	o := history.Op{Kind: history.Read, Key: "k", Outcome: history.Done, Call: log.Now()}
	s.do(&o)
	o.Return = log.Now()
	log.Add(o)
	return log.Take()
}

func TestJudgeLongHistories(t *testing.T) {
	right := run(false)
	checked, v := history.Judge(right, time.Minute)
	require.Nil(t, v)
	require.Greater(t, checked, 1500)

	// One write of thousands that was acknowledged and not carried out is found.
	wrong := run(true)
	_, v = history.Judge(wrong, time.Minute)
	require.NotNil(t, v)

	dir := t.TempDir()
	require.NoError(t, v.Visualize(filepath.Join(dir, "page.html")))
	require.NoError(t, history.Save(filepath.Join(dir, "history.jsonl"), wrong))
	text, err := os.ReadFile(filepath.Join(dir, "history.jsonl"))
	require.NoError(t, err)
	require.Equal(t, len(wrong), strings.Count(string(text), "\n"))
}

func TestAcknowledged(t *testing.T) {
	got := history.Acknowledged([]history.Op{
		write("a", 1, 2), swap("a", "b", 3, 4), read("b", 5, 6),
		lost(write("c", 7, 8), history.Unknown), lost(write("d", 7, 8), history.Refused), differs("x", "e", "b", 9, 10),
	})
	require.Equal(t, map[string][]string{"k": {"a", "b"}}, got)
}
