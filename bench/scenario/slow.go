package scenario

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/seed-4d73690b/rafthttp/bench/raftnode"
	"github.com/seed-4d73690b/rafthttp/bench/system"
)

// slow says what is slow about one follower of a group, and what it is measured with.
type slow struct {
	line    line
	process int64         // bytes a second that its Process takes; 0: no limit
	stall   time.Duration // Process stalls for so long once in each stallEvery; 0: never
	behind  int64         // bytes that were written while it was down; 0: it was not, and is measured for a time
}

const (
	stallEvery = 8 * time.Second
	// entryBytes is the data of an entry. So many different ones take turns that they do not fit into caches.
	entryBytes   = 1 << 20
	entriesInUse = 16
	// ahead is how much the leader's log is ahead of a slow follower's, as soon as it can be: what etcd lets raft have
	// under way to it, in appends of 1 MiB.
	ahead = raftnode.MaxInflightMsgs * entryBytes
	// proposeRate is how many bytes a second are proposed at most, while one follower is slow.
	proposeRate = 200 << 20
	// sampleEvery is how often a follower's log is looked at, for charts.
	sampleEvery = 500 * time.Millisecond
	// downPart of Settings.Follow is how long a member is down at least.
	downPart = 8
	// catchUpTimeout is how long one may take that was down. A run in which it takes longer has the figures of that time.
	catchUpTimeout = 30 * time.Second
)

// Outcome is what a run has measured.
type Outcome struct {
	Figures Figures
	// Goodput is how many MB/s a follower's log has grown by, in each Interval of the run; nil if that was not looked at.
	Goodput []float64
}

// Interval is that of Outcome.Goodput, in seconds.
const Interval = float64(sampleEvery) / float64(time.Second)

// groupRun is one run of a scenario with a group.
type groupRun struct {
	Scenario
	Settings
	system system.System
	group  *group
	data   [entriesInUse][]byte // of entries
}

// bytes is as much of n as the settings want to have moved.
func (r *groupRun) bytes(n int64) int64 {
	if r.Part != 0 {
		n = int64(float64(n) * r.Part)
	}
	return max(n, entryBytes)
}

// runGroup starts a group, measures and closes it.
func (s Scenario) runGroup(sys system.System, t Settings) (o Outcome, err error) {
	r := &groupRun{Scenario: s, Settings: t, system: sys}
	for i := range r.data {
		r.data[i] = system.Pattern(i, entryBytes)
	}
	if r.group, err = startGroup(sys, s.slow.line, s.slow.pace()); err != nil {
		return o, fmt.Errorf("start: %w", err)
	}
	defer func() { err = errors.Join(err, r.group.close()) }()
	if o, err = s.group(r); err == nil {
		err = r.group.err()
	}
	return o, err
}

// usedFollower is what a follower has been sent and has kept up to a moment.
type usedFollower struct {
	at                       time.Time
	log                      uint64 // entries
	received, drops, reports int64
}

func (r *groupRun) usedNow() usedFollower {
	m := r.group.members[followerID]
	return usedFollower{
		at: time.Now(), log: r.group.follower().Last(), received: m.received.Load(),
		drops: r.group.dropped(), reports: r.group.leader().Reports(),
	}
}

// capacity is how many bytes the follower can take in a time, at most; 0: that is not known.
func (s slow) capacity(d time.Duration) float64 {
	if p := s.pace(); p != nil {
		return p.capacity(d)
	}
	return float64(s.line.bandwidth) * d.Seconds()
}

// pace is that of the follower's application; nil: it takes appends at once.
func (s slow) pace() *pace {
	switch {
	case s.process == 0:
		return nil
	case s.stall == 0:
		return &pace{rate: s.process}
	default:
		return &pace{rate: s.process, stall: s.stall, every: stallEvery}
	}
}

// followSlow appends more than the slow follower can take, and measures what it gets.
func followSlow(r *groupRun) (Outcome, error) {
	stop := make(chan struct{})
	var proposer sync.WaitGroup
	var failed error
	w := r.watch()
	proposer.Go(func() { failed = r.propose(stop) })
	w.until(func(now time.Time) bool { return now.Sub(w.began.at) >= r.Follow })
	o, err := w.outcome()
	close(stop)
	proposer.Wait()
	return o, errors.Join(failed, err)
}

// propose appends entries until stop is closed: up to proposeRate, and no more than ahead of the slow follower.
func (r *groupRun) propose(stop <-chan struct{}) error {
	p := pace{rate: proposeRate}
	most := uint64(r.bytes(ahead) / entryBytes)
	for i := 0; ; i++ {
		for r.group.leader().Last() >= r.group.follower().Last()+most {
			time.Sleep(poll)
			select {
			case <-stop:
				return nil
			default:
			}
		}
		select {
		case <-stop:
			return nil
		default:
		}
		if err := errors.Join(p.wait(context.Background(), entryBytes), r.proposeOne(i)); err != nil {
			return err
		}
	}
}

func (r *groupRun) proposeOne(i int) error {
	ctx, cancel := context.WithTimeout(context.Background(), groupTimeout)
	defer cancel()
	return r.group.leader().Propose(ctx, r.data[i%len(r.data)])
}

// watched is what is seen of the follower's log.
type watched struct {
	run     *groupRun
	began   usedFollower
	first   time.Time // when the log began to grow; zero: it has not
	log     uint64    // its last entry then
	goodput []float64
}

func (r *groupRun) watch() *watched { return &watched{run: r, began: r.usedNow()} }

// until watches the follower's log until done.
func (w *watched) until(done func(now time.Time) bool) {
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	last, next := w.began.log, w.began.at.Add(sampleEvery)
	for now := range ticker.C {
		log := w.run.group.follower().Last()
		if w.first.IsZero() && log > w.began.log {
			w.first, w.log = now, log
		}
		for ; !now.Before(next); next = next.Add(sampleEvery) {
			w.goodput = append(w.goodput, float64(log-last)*entryBytes/sampleEvery.Seconds()/1e6)
			last = log
		}
		if done(now) {
			return
		}
	}
}

// outcome is what was seen until now. Goodput counts from the first entry on, all else from the beginning.
func (w *watched) outcome() (Outcome, error) {
	now := w.run.usedNow()
	if w.first.IsZero() || now.log == w.log {
		return Outcome{}, errors.New("the follower has got next to nothing")
	}
	grown := float64(now.log-w.log) * entryBytes
	elapsed := now.at.Sub(w.first)
	f := Figures{
		Goodput: grown / elapsed.Seconds() / 1e6,
		First:   w.first.Sub(w.began.at).Seconds() * 1e3,
		Waste:   float64(now.received-w.began.received) / (float64(now.log-w.began.log) * entryBytes),
		Drops:   float64(now.drops - w.began.drops), Reports: float64(now.reports - w.began.reports),
	}
	if capacity := w.run.slow.capacity(elapsed); capacity != 0 {
		f[Share] = grown / capacity
	}
	return Outcome{Figures: f.only(w.run.Metrics), Goodput: w.goodput}, nil
}

// catchUp ends a follower, appends as much as it is to be behind, starts it again, and measures until it has all of it.
func catchUp(r *groupRun) (Outcome, error) {
	node, err := r.group.down(followerID)
	if err != nil {
		return Outcome{}, err
	}
	down := time.Now()
	for i := range int(r.bytes(r.slow.behind) / entryBytes) {
		if err := r.proposeOne(i); err != nil {
			return Outcome{}, err
		}
	}
	if err := r.group.await("that the second member agrees", func() bool { return r.group.level(2) }); err != nil {
		return Outcome{}, err
	}
	time.Sleep(time.Until(down.Add(r.Follow / downPart)))
	if err := r.group.rejoin(node); err != nil {
		return Outcome{}, err
	}
	w := r.watch()
	goal := r.group.leader().Last()
	w.until(func(now time.Time) bool {
		return r.group.follower().Last() >= goal || now.Sub(w.began.at) > catchUpTimeout
	})
	return w.outcome()
}
