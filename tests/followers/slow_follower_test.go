package followers_test

import (
	"cmp"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
)

// line is what goes between the leader and the slow follower.
type line struct {
	rate   int           // bytes a second
	rtt    time.Duration // there and back
	window int           // of a connection, in bytes
}

var (
	nearLine = line{rate: 1e9, rtt: 500 * time.Microsecond, window: 4 << 20}
	slowLine = line{rate: 20e6, rtt: 40 * time.Millisecond, window: 4 << 20}
	farLine  = line{rate: 100e6, rtt: 150 * time.Millisecond, window: 16 << 20}
)

// slowFollower is one case: how much goes to a follower that is slow for some
// reason.
type slowFollower struct {
	name    string // of the test
	raced   bool   // with the race detector as well
	what    string // of the line in the table
	full    bool   // without the race detector with all bytes: the default limits as they are
	entry   int    // bytes of each
	total   int    // bytes of all
	line    line
	pace    int  // of the proposals, in bytes a second; 0: as quickly as a quorum commits
	down    bool // the follower is away while the entries are proposed
	cut     bool // the msgapp stream ends once, after a second
	process slowProcess
	tune    func(*raft.Config)

	tuneTransport func(*rafthttp.Transport)
	shared        bool // the members send by a raft group of their transports
	light         int  // what lighter has divided sizes by; 0: they are as they are
}

// slowProcess says how slow the follower's Process is with appends.
type slowProcess struct {
	rate  int           // bytes a second; 0: instant
	every int           // bytes after which it stands still
	stall time.Duration // for how long
}

// slow returns what delays appends.
func (p slowProcess) slow() func(context.Context, *raftpb.Message) error {
	sum := 0 // one append comes after another
	return func(ctx context.Context, msg *raftpb.Message) error {
		if msg.GetType() != raftpb.MsgApp {
			return nil
		}
		n := 0
		for _, e := range msg.GetEntries() {
			n += len(e.GetData())
		}
		var d time.Duration
		if p.rate > 0 {
			d = transmission(n, p.rate)
		}
		if p.every > 0 && (sum+n)/p.every > sum/p.every {
			d += p.stall
		}
		sum += n
		select {
		case <-time.After(d):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// ideal is how long the entries take if the line, or Process, never waits for
// anything else.
func (s slowFollower) ideal() time.Duration {
	rate := s.line.rate
	if s.process.rate > 0 {
		rate = min(rate, s.process.rate)
	}
	if s.pace > 0 {
		rate = min(rate, s.pace)
	}
	d := transmission(s.total, rate)
	if s.process.every > 0 {
		d += time.Duration((s.total-1)/s.process.every) * s.process.stall
	}
	return d
}

// What lighter divides sizes by.
const (
	lightness      = 4
	racedLightness = 16
)

// measured is how a case is run, unless it is full: lighter, as the bytes take most of the time, which are copied and compared.
// The race detector looks at each byte, and learns nothing from the number of them. Entries of less than 64 KiB keep their
// size without it, as what goes with each of them would become a larger part.
func (s slowFollower) measured() slowFollower {
	switch {
	case testmember.RaceEnabled:
		return s.lighter(racedLightness)
	case s.full || s.entry < 64<<10:
		return s
	default:
		return s.lighter(lightness)
	}
}

// lighter is the same, in the same time, with a fraction of all bytes: those of entries, appends, queues and windows, and
// what lines and Process take in a second. With the race detector it is shorter, too. Most cases are run without the
// detector only, which sees nothing new in them: see tools/test.
func (s slowFollower) lighter(by int) slowFollower {
	s.light = by
	s.what += fmt.Sprintf(", 1/%d of it", by)
	s.entry /= by
	if by >= racedLightness {
		s.total, s.process.every = min(s.total, 128<<20), min(s.process.every, 48<<20) // twice what a queue holds
	}
	s.total /= by
	s.line = s.line.lighter(by)
	s.process.rate /= by
	s.process.every /= by
	s.pace /= by
	tune, tuneTransport := s.tune, s.tuneTransport
	s.tune = func(cfg *raft.Config) {
		if tune != nil {
			tune(cfg)
		}
		cfg.MaxSizePerMsg /= uint64(by)
	}
	s.tuneTransport = func(tr *rafthttp.Transport) {
		if tuneTransport != nil {
			tuneTransport(tr)
		}
		lighterQueues(tr, by)
	}
	return s
}

func (l line) lighter(by int) line { return line{l.rate / by, l.rtt, l.window / by} }

// lighterQueues has queues of a transport hold a fraction of the bytes.
func lighterQueues(tr *rafthttp.Transport, by int) {
	tr.SendQueueBytes = cmp.Or(tr.SendQueueBytes, 64<<20) / int64(by)
	tr.ReceiveQueueBytes = cmp.Or(tr.ReceiveQueueBytes, 64<<20) / int64(by)
	tr.MaxQueuedBytes = cmp.Or(tr.MaxQueuedBytes, 1<<30) / int64(by)
}

// slowRun is what was measured.
type slowRun struct {
	caughtUp         bool
	took, ideal      time.Duration
	bytes            int64 // of entries that the follower acknowledged
	carried          int64 // bytes that it got from the leader
	dropped, refused uint64
	unreachable      int
}

// goodput is what the follower acknowledged, in bytes a second.
func (r slowRun) goodput() float64 { return float64(r.bytes) / r.took.Seconds() }

// share is goodput ÷ what the line carries.
func (r slowRun) share(total int) float64 {
	return r.goodput() / (float64(total) / r.ideal.Seconds())
}

func (r slowRun) waste() float64 { return float64(r.carried) / float64(r.bytes) }

func TestSlowFollower(t *testing.T) {
	testmember.SkipWithTinyBuffers(t)
	t.Log(slowTableHead)
	for _, s := range slowFollowers {
		s = s.measured()
		t.Run(s.name, func(t *testing.T) {
			if testmember.RaceEnabled && !s.raced {
				t.Skip("is measured without the race detector")
			}
			var r slowRun
			bubble.Test(t, func(t *testing.T) { r = s.run(t) })
			t.Log(r.row(s))
			assert.True(t, r.caughtUp, "the follower never caught up")
			assert.GreaterOrEqual(t, r.share(s.total), 0.95, "of what the line carries")
			assert.LessOrEqual(t, r.waste(), 1.05, "bytes carried ÷ bytes needed")
		})
	}
}

const slowTableHead = "| a follower is slow | MB/s | of the line | waste | drops sent · received | unreachable | caught up after (ideal) |"

func (r slowRun) row(s slowFollower) string {
	after := fmt.Sprintf("%.2f s", r.took.Seconds())
	if !r.caughtUp {
		after = "not in " + after
	}
	return fmt.Sprintf("| %s | %.1f | %.0f %% | %.2f | %d · %d | %d | %s (%.2f s) |", s.what, r.goodput()/1e6, 100*r.share(s.total), r.waste(),
		r.dropped, r.refused, r.unreachable, after, r.ideal.Seconds())
}

// slowPatience is how much longer than ideal a case may take before it is measured as
// it stands.
const slowPatience = 3

func (s slowFollower) run(t *testing.T) slowRun {
	c := newNetwork(t, s.line.window, s.tune, s.tuneTransport)
	c.shared = s.shared
	for id := uint64(1); id <= raftMembers; id++ {
		c.start(id)
	}
	c.elect(t)
	leader, follower := c.leader(), c.follower()
	if s.light > 0 {
		c.connect(nearLine.lighter(s.light), s.line)
		leader.outstanding /= s.light
	} else {
		c.connect(nearLine, s.line)
	}
	follower.slow(s.process.slow())

	base, n := leader.lastIndex(), s.total/s.entry
	loaded := make(chan error, 1)
	load := func() { loaded <- leader.load(t.Context(), n, s.entry, s.pace) }
	carried := follower.peer(theLeader).ReceivedBytes
	if s.down {
		c.Partition([]uint64{theFollower}, []uint64{1, 2})
		time.Sleep(10 * time.Second)
		load()
		require.True(t, leader.awaitCommits(n))
		c.Heal()
		heard := follower.appends()
		testmember.Within(t, 10*time.Second, func() bool { return follower.appends() > heard })
	} else {
		go load()
	}

	if s.cut {
		time.AfterFunc(time.Second, func() { c.streams.cut("msgapp", theLeader, theFollower) })
	}
	r := slowRun{ideal: s.ideal()}
	start := time.Now()
	for limit := slowPatience*s.ideal() + time.Second; !r.caughtUp && time.Since(start) < limit; {
		time.Sleep(time.Millisecond)
		r.caughtUp = leader.acknowledged(theFollower) >= base+uint64(n)
	}
	// The way of the first append and that of the last answer carry nothing new.
	r.took = time.Since(start) - s.line.rtt
	r.bytes = int64(leader.acknowledged(theFollower)-base) * int64(s.entry)
	r.carried = int64(follower.peer(theLeader).ReceivedBytes - carried)
	r.dropped, r.refused = leader.drops(theFollower), follower.drops(theLeader)
	leader.mu.Lock()
	r.unreachable = leader.unreachable[theFollower]
	leader.mu.Unlock()
	if r.caughtUp {
		require.NoError(t, <-loaded)
		require.Equal(t, leader.lastIndex(), follower.lastIndex())
	}
	return r
}

// connect makes the lines to and from the follower, and one between the others.
func (c *raftCluster) connect(others, follower line) {
	for from := uint64(1); from <= raftMembers; from++ {
		for to := uint64(1); to <= raftMembers; to++ {
			l := others
			if from == theFollower || to == theFollower {
				l = follower
			}
			c.Link(from, to).SetBandwidth(l.rate)
			c.Link(from, to).SetDelay(l.rtt / 2)
		}
	}
}
