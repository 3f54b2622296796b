package scenario

import (
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/seed-4d73690b/rafthttp/bench/system"
)

// sender sends a load to all peers of a cluster for as long as it runs, with a bounded number under way.
type sender struct {
	cluster system.Cluster
	sink    *sink
	load    *system.Load
	window  int64

	sent atomic.Int64 // to each peer
	stop atomic.Bool
	done chan error
}

func startSender(c system.Cluster, s *sink, l *system.Load) *sender {
	snd := &sender{cluster: c, sink: s, load: l, window: int64(l.Window), done: make(chan error, 1)}
	go func() { snd.done <- snd.run() }()
	return snd
}

// run hands over whatever the window has room for, as a Ready does with what piled up, and waits for room until half of
// the window is free: the system always has the other half to work on, and the two do not wake each other for every
// message.
func (s *sender) run() error {
	var sent int64
	position := 0
	for !s.stop.Load() {
		free := s.window - (sent - s.sink.slowest())
		if free < (s.window+1)/2 {
			if err := s.sink.waitAll(sent - s.window/2); err != nil {
				return err
			}
			continue
		}
		n := int(min(free, maxBatch, int64(s.load.Len-position)))
		s.cluster.Send(position, n)
		sent += int64(n)
		s.sent.Store(sent)
		position = (position + n) % s.load.Len
	}
	return s.sink.waitAll(sent)
}

// finish stops sending and waits until all has arrived.
func (s *sender) finish() error {
	s.stop.Store(true)
	if err := <-s.done; err != nil {
		return err
	}
	if err := s.sink.err(); err != nil {
		return err
	}
	sent, arrived := s.sent.Load()*int64(len(s.sink.arrived)), s.sink.total()
	if sent != arrived {
		return fmt.Errorf("%d messages have arrived of %d", arrived, sent)
	}
	return nil
}

// pingFor sends heartbeats to peer 0 one after the other, and returns how long each answer took, sorted.
func pingFor(c system.Cluster, s *sink, d time.Duration) ([]time.Duration, error) {
	times := make([]time.Duration, 0, 1<<16)
	start := time.Now()
	for now := start; now.Sub(start) < d || len(times) == 0; {
		expected := s.ponged[0].count.Load() + 1
		c.Ping(0)
		if err := s.wait(&s.ponged[0], expected); err != nil {
			return nil, err
		}
		after := time.Now()
		times = append(times, after.Sub(now))
		now = after
	}
	slices.Sort(times)
	return times, s.err()
}

// percentile of sorted times, in seconds.
func percentile(times []time.Duration, p float64) float64 {
	return times[min(len(times)-1, int(p*float64(len(times))))].Seconds()
}
