package latency

import (
	"slices"
	"time"
)

const (
	// floor is the least that is slow.
	floor = 100 * time.Millisecond
	// apart is how many times as long as before, and as at other peers, something takes that is slow.
	apart = 4
	// lasts is how long slow samples have to take together until it is said.
	lasts = time.Second
	// adapts is how long it can last until it is taken for how things are: the peer is elsewhere now, or has another disk.
	// Silence is no sign of that: a pause between two samples counts for an eighth at most. The past goes back as far.
	adapts = time.Hour
	// over is how many samples in a row must not be slow for a run of slow ones to have ended.
	over = 3
	// fresh is for how long the last sample says something about now.
	fresh = 30 * time.Second

	pastWeight, recentWeight = 64, 8 // how many samples a mean goes back; the past at least
	pastKnown                = 8     // from this number of samples on the past is known
)

// course is how the times of samples develop: what they were before, what they are now, and since
// when they have been slow. The zero value knows nothing. It is not safe for concurrent use.
type course struct {
	past   past  // those that were not slow
	recent Times // mean of all
	m      int   // of them, up to recentWeight
	last   time.Time
	run    run // of slow samples without a long pause
	astray run // of slow samples, whatever was between them
}

// run is consecutive samples that are slow.
type run struct {
	since, until time.Time
	parts        [Parts]time.Time // since when each part has been slow, in the mean or in the last sample; the zero time: it is not
	lasted       time.Duration    // in which one of them was under way, and of the pauses between them what counts
	mean         Times
	n            int // up to recentWeight; 0: there is no run
	others       int // that were not slow since
}

// before returns how long the parts take when they are not slow: as long as the past is not known, what is usual.
func (c *course) before(usual Times) Times {
	if c.past.n >= pastKnown {
		return c.past.mean
	}
	return usual
}

// unknown is what is usual for a part of which nothing can be told, and how long it takes: it is never slow, and has no past.
const unknown = time.Duration(-1)

// queueOnly returns the times of an append of which nothing else is known.
func queueOnly(t Times) Times { return Times{Queue: t[Queue], Wire: unknown, Follower: unknown} }

// isSlow reports whether a part is slow that takes d, and took so long before.
func isSlow(d, before time.Duration) bool { return before != unknown && d >= max(floor, apart*before) }

func (c *course) isSlow(t, usual Times) bool {
	before := c.before(usual)
	for p, d := range t {
		if isSlow(d, before[p]) {
			return true
		}
	}
	return false
}

// add takes in a sample from its begin to its end.
func (c *course) add(t, usual Times, begin, end time.Time) {
	stands := end.Sub(begin)
	if c.m > 0 {
		stands = min(end.Sub(c.last), fresh)
	}
	c.last = end
	c.m = min(c.m+1, recentWeight)
	approach(&c.recent, t, c.m)
	if begin.Sub(c.run.until) > fresh {
		c.run = run{}
	}
	blind := slices.Contains(usual[:], unknown)
	if c.isSlow(t, usual) {
		if blind {
			t = queueOnly(t)
		}
		before := c.before(usual)
		c.run.add(t, before, begin, end, 0)
		if blind {
			return // it becomes no past
		}
		c.astray.add(t, before, begin, end, adapts/pastKnown)
		if a := c.astray; a.n >= pastKnown && a.lasted >= adapts {
			c.past = past{mean: a.mean, n: pastKnown}
			c.run, c.astray = run{}, run{}
		}
		return
	}
	if !blind {
		c.past.add(t, stands)
	}
	c.run.pass()
	c.astray.pass()
}

// past is a mean over time: else many samples would forget soon, and who becomes slow by and by would never be slow.
type past struct {
	mean Times
	n    int           // how many samples, up to pastWeight
	span time.Duration // what they stand for together, up to adapts
}

// add takes in a sample that stands for so long, which is what a pause before it counts for as well.
func (p *past) add(t Times, d time.Duration) {
	d = max(d, 1)
	p.n = min(p.n+1, pastWeight)
	p.span = min(p.span+d, adapts)
	approach(&p.mean, t, max(p.n, int(p.span/d)))
}

// pass notes a sample that is not slow.
func (r *run) pass() {
	if r.others++; r.others >= over {
		*r = run{}
	}
}

// add takes in a slow sample, where the parts took so long before. Of the time without a slow one before it so much counts, at most.
func (r *run) add(t, before Times, begin, end time.Time, pause time.Duration) {
	if r.n == 0 {
		r.since, r.until = begin, begin
	}
	r.n = min(r.n+1, recentWeight)
	approach(&r.mean, t, r.n)
	for p := range r.parts {
		switch {
		case !isSlow(t[p], before[p]) && !isSlow(r.mean[p], before[p]):
			r.parts[p] = time.Time{}
		case r.parts[p].IsZero():
			r.parts[p] = begin
		}
	}
	if begin.Before(r.until) {
		begin = r.until
	}
	r.lasted += min(begin.Sub(r.until), pause) + max(end.Sub(begin), 0)
	r.until, r.others = end, 0
}

// approach moves a mean of n samples, the last of which is t, in the parts that are known.
func approach(mean *Times, t Times, n int) {
	for p := range mean {
		if t[p] != unknown {
			mean[p] += (t[p] - mean[p]) / time.Duration(n)
		}
	}
}

// view returns how it is now. pending is what a sample that has begun, and not ended, had taken until then; nil:
// there is none. If it is slow already, it is judged as if it had ended then; otherwise it says nothing yet.
func (c *course) view(pending *Times, usual Times, begin, until, now time.Time) View {
	if pending != nil && c.isSlow(*pending, usual) {
		ended := *c
		ended.add(*pending, usual, begin, until)
		return ended.view(nil, usual, begin, until, now)
	}
	var v View
	if v.Known = c.m > 0 && now.Sub(c.last) <= fresh; v.Known {
		v.Recent = c.recent
	}
	if r := c.run; r.n > 0 && now.Sub(r.until) <= fresh {
		v.Known, v.Recent, v.SlowFor = true, r.mean, r.lasted
		for p, since := range r.parts {
			v.Since[p] = since
			if since.IsZero() { // it is slow against what is known of it by now
				v.Since[p] = r.since
			}
		}
	}
	before := c.before(usual)
	v.New, v.Blind = c.past.n < pastKnown, slices.Contains(before[:], unknown)
	for p, d := range v.Recent {
		v.Longer[p] = max(d-before[p], 0)
		v.Over[p] = v.SlowFor >= lasts && isSlow(d, before[p])
		v.Slow = v.Slow || v.Over[p]
	}
	return v
}
