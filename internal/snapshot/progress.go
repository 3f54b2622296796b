package snapshot

import (
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
)

// rateWindow is the time over which the rate of a transfer is measured: from one
// to two of them.
const rateWindow = time.Second

// Status is the state of one transfer of a database. The SnapshotStatus of package rafthttp has the same fields, and
// describes them.
type Status struct {
	Peer         types.ID
	Incoming     bool
	Index        uint64
	Bytes, Total int64
	Rate         float64
	ETA          time.Duration
	Started      time.Time
	Attempts     int
	Error        string
	Ended        time.Time
	Group        uint64
}

// Progress is the part of a transfer that Status shows.
type Progress struct {
	peer      types.ID // this and those up to every are set before begin
	group     uint64   // 0: none
	incoming  bool
	peerBytes *atomic.Uint64 // counts bytes for the peer; nil if the other side is not a peer
	observe   func(Status)   // may be nil
	every     time.Duration  // shortest time between two calls

	started  time.Time
	index    atomic.Uint64
	bytes    atomic.Int64 // of the database
	total    atomic.Int64 // -1: unknown
	attempts atomic.Int32

	guard  sync.Mutex
	window [2]sample // starts of the last two windows
	err    error
	end    time.Time
	told   time.Time // observe
	moved  time.Time // time of the last progress
}

type sample struct {
	at    time.Time
	bytes int64
}

func (p *Progress) begin(now time.Time, total int64) {
	p.started, p.told, p.moved = now, now, now
	p.total.Store(total)
	p.window = [2]sample{{at: now}, {at: now}}
}

// add counts n bytes. Call it after some hundred KiB, not for each byte.
func (p *Progress) add(n int64) {
	bytes := p.bytes.Add(n)
	if p.peerBytes != nil {
		p.peerBytes.Add(uint64(n))
	}
	now := time.Now()
	p.guard.Lock()
	if n > 0 {
		p.moved = now
	}
	if now.Sub(p.window[1].at) >= rateWindow {
		p.window[0], p.window[1] = p.window[1], sample{now, bytes}
	}
	tell := p.observe != nil && now.Sub(p.told) >= p.every
	if tell {
		p.told = now
	}
	p.guard.Unlock()
	if tell {
		p.observe(p.state())
	}
}

// still returns the time since the last progress.
func (p *Progress) still() time.Duration {
	p.guard.Lock()
	defer p.guard.Unlock()
	return time.Since(p.moved)
}

// jump notes that the transfer continues at a position.
func (p *Progress) jump(bytes int64) {
	p.bytes.Store(bytes)
	now := time.Now()
	p.guard.Lock()
	defer p.guard.Unlock()
	p.window = [2]sample{{now, bytes}, {now, bytes}}
}

// failed notes the failure of an attempt.
func (p *Progress) failed(err error) {
	p.guard.Lock()
	defer p.guard.Unlock()
	p.err = err
}

// ended notes the end of the transfer.
func (p *Progress) ended(err error) {
	p.guard.Lock()
	defer p.guard.Unlock()
	p.err, p.end = err, time.Now()
}

func (p *Progress) state() Status {
	st := Status{
		Peer: p.peer, Group: p.group, Incoming: p.incoming,
		Index: p.index.Load(), Bytes: p.bytes.Load(), Total: p.total.Load(), Started: p.started, Attempts: int(p.attempts.Load()),
	}
	p.guard.Lock()
	defer p.guard.Unlock()
	if p.err != nil {
		st.Error = p.err.Error()
	}
	st.Ended = p.end
	now, since := time.Now(), p.window[0]
	if !p.end.IsZero() {
		now, since = p.end, sample{at: p.started} // of the complete transfer
	}
	if took := now.Sub(since.at); took > 0 {
		st.Rate = float64(max(0, st.Bytes-since.bytes)) / took.Seconds()
	}
	if left := st.Total - st.Bytes; st.Rate > 0 && left > 0 && p.end.IsZero() {
		st.ETA = time.Duration(min(float64(left)/st.Rate, maxETA.Seconds()) * float64(time.Second))
	}
	return st
}

// maxETA is the longest reported time, practically never.
const maxETA = 1000 * 24 * time.Hour
