package rafttest

import (
	"math/rand/v2"
	"slices"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// Rule selects messages, and sets their fate. The zero value matches all and does nothing.
type Rule struct {
	// From and To are the members a message goes between; 0 means any.
	From, To uint64
	// Types are the types of messages; none means all.
	Types []raftpb.MessageType
	// Match, if not nil, must report true as well. It is called concurrently and must not change the message.
	Match func(*raftpb.Message) bool

	// Loss, Duplicate and Reorder are probabilities, from 0 to 1, that a message is lost, is delivered twice, or waits
	// until the next one (from one member to the same other) was processed: for 1 s at most.
	Loss, Duplicate, Reorder float64
	// Delay delays a message, and Jitter adds a random time from 0 to below it. Each message is delayed separately,
	// so with Jitter a later one may overtake it. The sender is told at once that it was processed.
	Delay, Jitter time.Duration
}

func (r *Rule) matches(m *raftpb.Message, to uint64) bool {
	return (r.From == 0 || r.From == m.GetFrom()) && (r.To == 0 || r.To == to) &&
		(len(r.Types) == 0 || slices.Contains(r.Types, m.GetType())) && (r.Match == nil || r.Match(m))
}

// fate is the effect of the rules on one message.
type fate struct {
	lost    bool
	swapped bool            // with the next
	delays  []time.Duration // one for each copy; 0: at once
}

// decide draws the fate of a message from the rules that match.
func decide(rules []*Rule, rnd *rand.Rand) fate {
	f := fate{delays: []time.Duration{0}}
	for _, r := range rules {
		f.lost = happens(rnd, r.Loss) || f.lost
		f.swapped = happens(rnd, r.Reorder) || f.swapped
		if happens(rnd, r.Duplicate) {
			f.delays = append(f.delays, f.delays[0])
		}
		for i := range f.delays {
			f.delays[i] += r.Delay
			if r.Jitter > 0 {
				f.delays[i] += time.Duration(rnd.Int64N(int64(r.Jitter)))
			}
		}
	}
	return f
}

func happens(rnd *rand.Rand, p float64) bool { return p > 0 && rnd.Float64() < p }
