package sim

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

const (
	// judgeTime is how long one era's history may take to judge, in real time. It takes milliseconds.
	judgeTime = time.Minute
	// commandTime is how long a healthy cluster may take to take a command.
	commandTime = time.Minute
)

// Judge finds out whether histories are linearizable. It works outside of the bubble, where time passes.
type Judge struct {
	histories chan []porcupine.Operation
	results   chan porcupine.CheckResult
}

// NewJudge returns a judge, and what ends it. Make it outside of the bubble of a simulation; several may use it, one after
// another.
func NewJudge() (j *Judge, end func()) {
	j = &Judge{make(chan []porcupine.Operation), make(chan porcupine.CheckResult)}
	go func() {
		for h := range j.histories {
			j.results <- porcupine.CheckOperationsTimeout(model, h, judgeTime)
		}
	}()
	return j, func() { close(j.histories) }
}

func (j *Judge) linearizable(history []porcupine.Operation) porcupine.CheckResult {
	j.histories <- history
	return <-j.results
}

// step is the input of one operation of a history: an append if it is a client's, else a read.
type step struct {
	command
	// final is what the list is in the end. Nothing is ever taken from a list, so it tells what the order was: without it,
	// the search for one among appends of which the end is not known would take forever.
	final string
}

// model is a list.
var model = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		parts := make(map[string][]porcupine.Operation)
		for _, op := range history {
			list := op.Input.(step).List
			parts[list] = append(parts[list], op)
		}
		return slices.Collect(maps.Values(parts))
	},
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		in := input.(step)
		if in.Client == 0 {
			return output == state, state
		}
		longer := state.(string) + in.id() + ","
		return strings.HasPrefix(in.final, longer), longer
	},
	DescribeOperation: func(input, output any) string {
		if in := input.(step); in.Client != 0 {
			return "append " + in.id()
		}
		return fmt.Sprintf("read %q", output)
	},
}

// contains says whether a list has what a command appends.
func contains(list string, c command) bool { return strings.Contains(","+list, ","+c.id()+",") }

// historyOf returns what a judge is told of one era: what clients saw, and what is there in the end. Appends of which the
// end is not known, and that are not there, have not happened.
func historyOf(seen []porcupine.Operation, final map[string]string, names []string) (history []porcupine.Operation) {
	for _, op := range seen {
		c := op.Input.(command)
		if op.Return == endOfTime && !contains(final[c.List], c) {
			continue
		}
		op.Input = step{c, final[c.List]}
		history = append(history, op)
	}
	for _, name := range names {
		op := porcupine.Operation{Input: step{command{List: name}, final[name]}, Call: order.Add(1), Output: final[name]}
		op.Return = order.Add(1)
		history = append(history, op)
	}
	return history
}

// check looks at what clients saw in the era, and forgets all lists.
func (s *simulation) check() {
	s.t.Helper()
	m := s.running()[0]
	m.mu.Lock()
	final := make(map[string]string)
	for list, value := range m.state.Lists {
		final[list] = value
	}
	m.mu.Unlock()

	var seen []porcupine.Operation
	for i := range s.clients {
		c := &s.clients[i]
		for _, cmd := range c.acknowledged {
			if !contains(final[cmd.List], cmd) {
				s.fatalf("an acknowledged append is lost: %+v is not in %q", cmd, final[cmd.List])
			}
		}
		seen = append(seen, c.history...)
		s.report.Appends += len(c.acknowledged)
		s.report.Reads += len(c.history) - len(c.acknowledged) - c.unknown
		s.report.Unknown += c.unknown
		s.report.Dropped += c.denied
		c.history, c.acknowledged, c.unknown, c.denied = nil, nil, 0, 0
	}
	var names []string
	for list := range lists {
		names = append(names, fmt.Sprintf("%d/%d", s.report.Eras, list))
	}
	history := historyOf(seen, final, names)
	if r := s.judge.linearizable(history); r != porcupine.Ok {
		s.fatalf("the history is not linearizable (%s):\n%s", r, describe(history))
	}
	s.report.Checked += len(history)
	s.report.Elections = int(m.Status().HardState.GetTerm())
	s.forgetLists()
}

func describe(history []porcupine.Operation) string {
	var b strings.Builder
	for _, op := range history {
		fmt.Fprintf(&b, "%d to %d, client %d, %s: %s\n",
			op.Call, op.Return, op.ClientId, op.Input.(step).List, model.DescribeOperation(op.Input, op.Output))
	}
	return b.String()
}

// forgetLists has all members forget all lists, or snapshots would grow.
func (s *simulation) forgetLists() {
	ctx, cancel := context.WithTimeout(context.Background(), commandTime)
	defer cancel()
	s.clear++
	for ctx.Err() == nil {
		try, stop := context.WithTimeout(ctx, patience)
		err := s.running()[0].appendTo(try, command{Seq: s.clear})
		stop()
		if err == nil {
			return
		}
	}
	s.fatalf("a healthy cluster takes no command for a minute")
}
