package fair

import (
	"math"
	"time"
)

// Stream is a stream that brings messages of several groups, all of which wait while an offer of it does. The zero value is ready. It is of
// one Pool, whose lock guards it, and has one offer at a time. A nil Stream is no stream: an offer that delays nobody else.
type Stream struct {
	group     uint64        // of the last offer
	sharedAt  time.Duration // by the clock of the pool, when an offer for another group came last; 0: never
	waits     time.Duration // for which offers have waited for slow inboxes, less what has become free again since
	waitsSeen time.Duration // by the clock of the pool, when waits was right
}

const (
	// Offers wait for an inbox whose Process is quick. While offers for other groups come by the Stream, which are delayed, they wait for the
	// rest as long as what they bring takes at freeRate bytes a second, and beyond that for waitCredit together, and in the long run
	// for 1/waitPart of the time. Others count for sharedFor in which the stream does not wait.
	freeRate   = 8 << 20
	waitCredit = 20 * standsAfter
	waitPart   = 10
	sharedFor  = time.Second
)

// offered is called with the lock of the pool held: it notes an offer for an inbox.
func (s *Stream) offered(in *Inbox, clock time.Duration) {
	if s == nil || in.Group == s.group {
		return
	}
	if s.group != 0 {
		s.sharedAt = clock
	}
	s.group = in.Group
}

// isShared is called with the lock of the pool held: it reports whether a wait that began then delays others.
func (s *Stream) isShared(began time.Duration) bool {
	return s != nil && s.sharedAt != 0 && began-s.sharedAt <= sharedFor
}

// mayWait is called with the lock of the pool held: it returns for how long an offer may go on to wait for its inbox until it is tried again.
func (s *Stream) mayWait(o *waitingOffer, clock time.Duration) time.Duration {
	if !s.isShared(o.began) {
		return math.MaxInt64
	}
	s.noteWaits(clock)
	waited := clock - o.began
	left := waitCredit - s.waits + freeWait(o.Size) - waited
	if waited == 0 && left < standsAfter { // too little for most
		left = 0
	}
	if !o.Inbox.isSlow(clock) {
		return max(left, blockedAfter-o.Inbox.call(clock)) // it may be then
	}
	return left
}

// hasWaited is called with the lock of the pool held, after an offer has waited for its inbox.
func (s *Stream) hasWaited(o *waitingOffer, accepted bool, clock time.Duration) {
	if !s.isShared(o.began) || !o.Inbox.isSlow(clock) {
		return
	}
	s.noteWaits(clock)
	waited := clock - o.began
	s.sharedAt += waited
	if accepted {
		waited -= freeWait(o.Size)
	}
	s.waits += max(0, waited)
}

func (s *Stream) noteWaits(clock time.Duration) {
	s.waits = max(0, s.waits-(clock-s.waitsSeen)/waitPart)
	s.waitsSeen = clock
}

// freeWait is how long an inbox may take for so many bytes.
func freeWait(size int64) time.Duration {
	return time.Duration(float64(size) / freeRate * float64(time.Second))
}
