// Package postlimit limits the concurrent requests with a message, in number and in memory.
package postlimit

import (
	"sync"

	"go.etcd.io/etcd/client/pkg/v3/types"

	"github.com/seed-4d73690b/rafthttp/internal/protocol"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
)

const (
	// maxPosts limits the POSTs being read, and for each kind those that wait
	// for Process: proposals must not delay votes. Members that are not peers, whose ids
	// may be made up, have maxPostsOfOthers of them. maxPostsPerMember is the limit of
	// one member. Ours makes four of a kind at a time.
	maxPosts          = 256
	maxPostsOfOthers  = maxPosts / 2
	maxPostsPerMember = 16
	// postBytesPart is the part of MaxQueuedBytes that POSTs may have while they are read, and until their lanes have
	// accepted them. As much again is shared equally among them: each has that much room, whatever the others use.
	postBytesPart = 4
)

// Limiter limits the POSTs in progress. It is safe for concurrent use.
type Limiter struct {
	maxBytes int64

	mu     sync.Mutex
	all    counts // of all members
	others counts // of members that are not peers
	byID   map[types.ID]*counts
	beyond int64 // memory of POSTs not yet accepted by a lane, beyond the share of each
}

// counts are the numbers of POSTs of one or more members.
type counts struct {
	all     int
	reading int
	waiting [queue.Kinds]int
}

// New returns a limiter whose POSTs may have a part of maxQueuedBytes, the limit of all queues.
func New(maxQueuedBytes int64) *Limiter {
	return &Limiter{maxBytes: max(1, maxQueuedBytes/postBytesPart), byID: map[types.ID]*counts{}}
}

// Post is a POST in progress.
type Post struct {
	limiter *Limiter
	counts  []*counts // of the member, of all, and of the others, if it is one
	from    types.ID
	bytes   int64      // of its body and its message, until a lane has accepted it
	kind    queue.Kind // known after reading
	read    bool
}

// Begin starts another POST of a member, which must End, or returns nil if there are too many.
func (l *Limiter) Begin(from types.ID, isPeer bool) *Post {
	l.mu.Lock()
	defer l.mu.Unlock()
	of := l.byID[from]
	if of == nil {
		of = &counts{}
	}
	if of.reading >= maxPostsPerMember || l.all.reading >= maxPosts || !isPeer && l.others.reading >= maxPostsOfOthers {
		return nil
	}
	l.byID[from] = of
	of.all++
	post := &Post{limiter: l, counts: []*counts{of, &l.all}, from: from}
	if !isPeer {
		post.counts = append(post.counts, &l.others)
	}
	for _, c := range post.counts {
		c.reading++
	}
	return post
}

// WasRead sets the kind of message in the body. It returns false if too many of its kind wait.
func (p *Post) WasRead(k queue.Kind) bool {
	p.limiter.mu.Lock()
	defer p.limiter.mu.Unlock()
	limits := [...]int{maxPostsPerMember, maxPosts, maxPostsOfOthers}
	for i, c := range p.counts {
		if c.waiting[k] >= limits[i] {
			return false
		}
	}
	p.read, p.kind = true, k
	for _, c := range p.counts {
		c.reading--
		c.waiting[k]++
	}
	return true
}

// Queued notes that a lane accounts for the memory of the message from now on.
func (p *Post) Queued() {
	p.limiter.mu.Lock()
	defer p.limiter.mu.Unlock()
	p.limiter.beyond -= p.beyondShare(0)
	p.bytes = 0
}

// Reserve makes room for n more bytes, of the body or in memory. Its error is ErrBusyPosts. Each POST has a share that
// the others cannot take. The bytes beyond the shares are limited if they are of several POSTs: one may be larger.
func (p *Post) Reserve(n uint64) error {
	p.limiter.mu.Lock()
	defer p.limiter.mu.Unlock()
	others := p.limiter.beyond - p.beyondShare(0)
	after := p.beyondShare(int64(n))
	if after > 0 && others > 0 && others+after > p.limiter.maxBytes {
		return protocol.ErrBusyPosts
	}
	p.bytes += int64(n)
	p.limiter.beyond = others + after
	return nil
}

// beyondShare returns how much the POST would hold beyond its share with n more bytes.
func (p *Post) beyondShare(n int64) int64 { return max(p.bytes+n-p.limiter.maxBytes/maxPosts, 0) }

// End ends the POST.
func (p *Post) End() {
	p.limiter.mu.Lock()
	defer p.limiter.mu.Unlock()
	p.limiter.beyond -= p.beyondShare(0)
	for _, c := range p.counts {
		if p.read {
			c.waiting[p.kind]--
		} else {
			c.reading--
		}
	}
	of := p.counts[0]
	if of.all--; of.all == 0 {
		delete(p.limiter.byID, p.from)
	}
}
