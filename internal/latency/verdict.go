package latency

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// View is how long the appends to or from one peer take now.
type View struct {
	Known   bool             // there was a sample in the last half a minute
	Recent  Times            // the mean of the last samples; in a run of slow ones, of those
	Longer  Times            // by how much that is more than before, or, as long as that is not known, than usual
	Slow    bool             // a part has been slow for a while, against what it was before
	Over    [Parts]bool      // which ones
	New     bool             // it is not known how long they took before
	Blind   bool             // wire and follower cannot be told apart: no round trip to the peer is known
	Since   [Parts]time.Time // since when each part has been slow; only of those in Over
	SlowFor time.Duration    // in which a slow one was under way
	Guessed bool             // wire and follower are told apart by the round trip of probes: nobody tells when the peer's system has acknowledged
}

// Verdict says which part of one peer stands out.
type Verdict struct {
	Part  Part
	Since time.Time
	Took  time.Duration // all parts together
	Of    time.Duration // that, in the part
	Text  string        // what the peer does, or what happens to its appends: a sentence without its subject
}

// Judge returns a verdict on each peer whose appends are slow in one part, compared with its own past,
// and have become slower there than those of most other peers have; else nil. What becomes slow for most peers
// is slow here, or is everywhere, and no peer stands out.
func Judge(to []View) []*Verdict {
	all := make([]*Verdict, len(to))
	for i, v := range to {
		all[i] = v.worst(func(p Part) bool { return standsOut(to, i, p) })
	}
	return all
}

// Own returns the verdict on the local member's part in the appends from a peer, or nil.
func Own(from View) *Verdict {
	return from.worst(func(Part) bool { return true })
}

// worst returns the verdict on the slow part that has become slower by most, of those that count; nil: there is none.
// A part that has always taken longer hides no other.
func (v View) worst(counts func(Part) bool) *Verdict {
	worst, found := Queue, false
	for p := range Parts {
		if v.Over[p] && (!found || v.Longer[p] > v.Longer[worst]) && counts(p) {
			worst, found = p, true
		}
	}
	if !found {
		return nil
	}
	return v.verdict(worst)
}

// standsOut reports whether a part takes long for one of all, compared with the others: it takes longer by more than theirs do, or,
// if nobody knows how long it took before, it takes longer.
func standsOut(all []View, one int, p Part) bool {
	of := func(v View) time.Duration {
		if all[one].New {
			return v.Recent[p]
		}
		return v.Longer[p]
	}
	var others []time.Duration
	for i, v := range all {
		if i != one && v.Known && (!v.Blind || p == Queue) {
			others = append(others, of(v))
		}
	}
	if len(others) == 0 {
		return true
	}
	slices.Sort(others)
	return of(all[one]) >= apart*others[(len(others)-1)/2]
}

func (v View) verdict(p Part) *Verdict {
	d := &Verdict{Part: p, Since: v.Since[p], Took: v.Recent.Total(), Of: v.Recent[p]}
	took, of := short(d.Took), short(d.Of)
	switch p {
	case Queue:
		d.Text = fmt.Sprintf("its appends take %s, %s of it in the send queue here: more is sent to it than it, or its line, takes", took, of)
	case Wire:
		d.Text = fmt.Sprintf("answers appends after %s, %s of it on the wire: its round trip, losses, or bandwidth", took, of)
	case Follower:
		d.Text = fmt.Sprintf("answers appends after %s, %s of it at the follower: its disk, or its Ready loop", took, of)
		if v.Guessed {
			d.Text += "; perhaps the wire, which cannot be told apart on this connection"
		}
	case Receive:
		d.Text = fmt.Sprintf("its appends take %s here, %s of it in the receive queue: Process of this member takes too few", took, of)
	default:
		d.Text = fmt.Sprintf("its appends take %s here, %s of it in Process: the disk, a lock, or the Ready loop of this member", took, of)
	}
	return d
}

// short is d with two digits.
func short(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%d ms", int(rounded(float64(d.Milliseconds()))))
	}
	return fmt.Sprintf("%g s", rounded(10*d.Seconds())/10)
}

// rounded is f, of which only the first two digits are not 0.
func rounded(f float64) float64 {
	unit := 1.0
	for f/unit >= 100 {
		unit *= 10
	}
	return math.Round(f/unit) * unit
}
