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
// says what they are.
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
}

// Progress is what Status tells of a transfer. The fields that have a capital letter are set before Begin.
type Progress struct {
	Peer      types.ID
	Incoming  bool
	PeerBytes *atomic.Uint64 // counts bytes for the peer; nil if the other side is none
	Observe   func(Status)   // may be nil
	Every     time.Duration  // how often it is called, at most

	Started  time.Time
	Index    atomic.Uint64
	Bytes    atomic.Int64 // of the database
	Total    atomic.Int64 // -1: not known
	Attempts atomic.Int32

	guard  sync.Mutex
	window [2]sample // beginnings of the last two windows
	err    error
	end    time.Time
	told   time.Time // observe
}

type sample struct {
	at    time.Time
	bytes int64
}

func (p *Progress) Begin(now time.Time, total int64) {
	p.Started, p.told = now, now
	p.Total.Store(total)
	p.window = [2]sample{{at: now}, {at: now}}
}

// Add counts n bytes. Call it after some hundred KiB, not for each byte.
func (p *Progress) Add(n int64) {
	bytes := p.Bytes.Add(n)
	if p.PeerBytes != nil {
		p.PeerBytes.Add(uint64(n))
	}
	now := time.Now()
	p.guard.Lock()
	if now.Sub(p.window[1].at) >= rateWindow {
		p.window[0], p.window[1] = p.window[1], sample{now, bytes}
	}
	tell := p.Observe != nil && now.Sub(p.told) >= p.Every
	if tell {
		p.told = now
	}
	p.guard.Unlock()
	if tell {
		p.Observe(p.State())
	}
}

// Jump says that the transfer goes on at a position.
func (p *Progress) Jump(bytes int64) {
	p.Bytes.Store(bytes)
	now := time.Now()
	p.guard.Lock()
	defer p.guard.Unlock()
	p.window = [2]sample{{now, bytes}, {now, bytes}}
}

// Failed says that an attempt has.
func (p *Progress) Failed(err error) {
	p.guard.Lock()
	defer p.guard.Unlock()
	p.err = err
}

// Ended says how the transfer did.
func (p *Progress) Ended(err error) {
	p.guard.Lock()
	defer p.guard.Unlock()
	p.err, p.end = err, time.Now()
}

func (p *Progress) State() Status {
	st := Status{
		Peer: p.Peer, Incoming: p.Incoming,
		Index: p.Index.Load(), Bytes: p.Bytes.Load(), Total: p.Total.Load(), Started: p.Started, Attempts: int(p.Attempts.Load()),
	}
	p.guard.Lock()
	defer p.guard.Unlock()
	if p.err != nil {
		st.Error = p.err.Error()
	}
	st.Ended = p.end
	now, since := time.Now(), p.window[0]
	if !p.end.IsZero() {
		now, since = p.end, sample{at: p.Started} // of all of it
	}
	if took := now.Sub(since.at); took > 0 {
		st.Rate = float64(max(0, st.Bytes-since.bytes)) / took.Seconds()
	}
	if left := st.Total - st.Bytes; st.Rate > 0 && left > 0 && p.end.IsZero() {
		st.ETA = time.Duration(min(float64(left)/st.Rate, maxETA.Seconds()) * float64(time.Second))
	}
	return st
}

// maxETA is the longest time that is told, for all practical purposes never.
const maxETA = 1000 * 24 * time.Hour
