package history

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

// Violation is what a store must never do.
type Violation struct {
	Key  string
	What string

	history []porcupine.Operation
	info    porcupine.LinearizationInfo
}

// Error implements error.
func (v *Violation) Error() string { return fmt.Sprintf("key %s: %s", v.Key, v.What) }

// Visualize writes a page that shows the operations of the key, and how far an order of them was found.
func (v *Violation) Visualize(path string) error {
	if v.history == nil {
		return nil
	}
	return porcupine.VisualizePath(model, v.info, path)
}

// Judge looks at a history of keys that had no value at first. It returns how many operations had to be in order, and what
// is wrong with the first key of which something is. For each key the search may take as long as limit.
//
// What clients do not know the end of is no guess: see resolve.
func Judge(ops []Op, limit time.Duration) (checked int, violation *Violation) {
	keys := make(map[string][]Op)
	for _, op := range ops {
		keys[op.Key] = append(keys[op.Key], op)
	}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		certain, err := resolve(keys[key])
		if err != nil {
			return checked, &Violation{Key: key, What: err.Error()}
		}
		checked += len(certain)
		if v := judge(key, certain, limit); v != nil {
			return checked, v
		}
	}
	return checked, nil
}

// resolve leaves out operations that say nothing, and finds out what came of writes that have no known end. Each value is
// written once, so whoever has seen a value proves that it was written, before the first of those who saw it returned. And
// one that nobody has seen may as well have been written after all others: since every operation but a plain write says
// what it found, it changes nothing whether it was written at all. So nothing is left that may or may not have happened,
// which is what makes the search for an order slow.
func resolve(ops []Op) (certain []Op, err error) {
	written := make(map[string]bool)
	seen := make(map[string]time.Duration) // value -> the first return of those who saw it
	for i := range ops {
		op := &ops[i]
		if op.writes() {
			if written[op.Value] {
				return nil, fmt.Errorf("the test is wrong: %q is written twice", op.Value)
			}
			written[op.Value] = true
		}
		if value, ok := op.observes(); ok {
			if first, before := seen[value]; !before || op.Return < first {
				seen[value] = op.Return
			}
		}
	}
	for value := range seen {
		if value != None && !written[value] {
			return nil, fmt.Errorf("%q was found, and nobody has written it", value)
		}
	}
	for _, op := range ops {
		switch op.Outcome {
		case Refused:
			continue
		case Unknown:
			first, ok := seen[op.Value]
			if !ok {
				continue
			}
			if first < op.Call {
				return nil, fmt.Errorf("%q was found before it was written", op.Value)
			}
			// The client may have given up before or after; the write took place by then.
			op.Return = first
			if op.Kind == Swap {
				op.Outcome = Done
			}
		}
		certain = append(certain, op)
	}
	return certain, nil
}

func judge(key string, ops []Op, limit time.Duration) *Violation {
	history := make([]porcupine.Operation, len(ops))
	for i, op := range ops {
		history[i] = porcupine.Operation{ClientId: op.Client, Input: op, Call: int64(op.Call), Return: int64(op.Return)}
	}
	switch result := porcupine.CheckOperationsTimeout(model, history, limit); result {
	case porcupine.Ok:
		return nil
	case porcupine.Unknown:
		return &Violation{Key: key, What: fmt.Sprintf("no order of its %d operations was found within %v", len(ops), limit)}
	default:
		_, info := porcupine.CheckOperationsVerbose(model, history, limit)
		return &Violation{Key: key, What: fmt.Sprintf("its %d operations are not linearizable", len(ops)), history: history, info: info}
	}
}

// model is a key: its state is its value.
var model = porcupine.Model{
	Init: func() any { return None },
	Step: func(state, input, _ any) (bool, any) {
		op, value := input.(Op), state.(string)
		if found, ok := op.observes(); ok && found != value {
			return false, state
		}
		if op.writes() {
			value = op.Value
		}
		return true, value
	},
	DescribeOperation: func(input, _ any) string {
		op := input.(Op)
		what := string(op.Kind)
		switch {
		case op.Kind == Read:
			what += " → " + shown(op.Found)
		case op.Outcome == Differs:
			what += fmt.Sprintf(" %s by %s → found %s", shown(op.Expect), op.Value, shown(op.Found))
		case op.Kind == Swap:
			what += fmt.Sprintf(" %s by %s", shown(op.Expect), op.Value)
		default:
			what += " " + op.Value
		}
		return fmt.Sprintf("%s at %s, %s", what, op.Member, op.Outcome)
	},
	DescribeState: func(state any) string { return shown(state.(string)) },
}

func shown(value string) string {
	if value == None {
		return "nothing"
	}
	return value
}

// Acknowledged returns the values that are known to have been written, by key: the keys of which it has a value have one
// for certain, and the last of them unless another write may have come after.
func Acknowledged(ops []Op) map[string][]string {
	values := make(map[string][]string)
	for _, op := range ops {
		if op.Kind != Read && op.Outcome == Done {
			values[op.Key] = append(values[op.Key], op.Value)
		}
	}
	return values
}

// Late returns the values that keys may still get, by key: of writes that have no known end, and that nobody has seen. A
// request, or a proposal that a follower passes on, may be on its way for long after its client has given up. A swap comes late only
// if it replaces what the key has, as last says, or another late value.
func Late(ops []Op, last map[string]string) map[string][]string {
	seen := make(map[string]bool)
	for _, op := range ops {
		if value, ok := op.observes(); ok {
			seen[value] = true
		}
	}
	values := make(map[string][]string)
	for more := true; more; {
		more = false
		for _, op := range ops {
			late := values[op.Key]
			if op.Kind == Read || op.Outcome != Unknown || seen[op.Value] || slices.Contains(late, op.Value) {
				continue
			}
			if op.Kind == Write || op.Expect == last[op.Key] || slices.Contains(late, op.Expect) {
				values[op.Key], more = append(late, op.Value), true
			}
		}
	}
	return values
}
