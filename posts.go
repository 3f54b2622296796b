package rafthttp

import (
	"sync"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/protocol"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
)

const (
	// maxPosts bounds the posts that are read at once, and for each kind those that wait
	// for Process: proposals must not hold up votes. Members that are no peers, whose ids
	// may be made up, have maxPostsOfOthers of them. maxPostsPerMember does the same for
	// one member. Ours makes four of a kind at a time.
	maxPosts          = 256
	maxPostsOfOthers  = maxPosts / 2
	maxPostsPerMember = 16
	// postBytesPart is the part of MaxQueuedBytes that posts may have while they are
	// read, and until their lanes have taken them. As much again is shared equally among them: each has room for so much,
	// whatever the others bring.
	postBytesPart = 4
	// minPostRate is how fast a body must come, in bytes a second, beyond the time
	// that any post may take.
	minPostRate = 16 << 10
)

// incomingPosts bounds the posts under way. It is safe for concurrent use.
type incomingPosts struct {
	maxBytes int64

	mu     sync.Mutex
	all    memberPosts // of all members
	others memberPosts // of those that are no peers
	byID   map[types.ID]*memberPosts
	beyond int64 // what posts that no lane has taken hold in memory, beyond the share of each
}

// memberPosts counts the posts of one or more members.
type memberPosts struct {
	all     int
	reading int
	waiting [queue.Kinds]int
}

func newIncomingPosts(maxQueuedBytes int64) *incomingPosts {
	return &incomingPosts{maxBytes: max(1, maxQueuedBytes/postBytesPart), byID: map[types.ID]*memberPosts{}}
}

// incomingPost is one of them.
type incomingPost struct {
	*incomingPosts
	counts []*memberPosts // of the member, of all, and of the others, if it is one
	from   types.ID
	bytes  int64      // of its body and its message, until a lane has taken it
	kind   queue.Kind // once it was read
	read   bool
}

// begin returns one more post of a member, which must end, or nil if there are too
// many.
func (p *incomingPosts) begin(from types.ID, isPeer bool) *incomingPost {
	p.mu.Lock()
	defer p.mu.Unlock()
	of := p.byID[from]
	if of == nil {
		of = &memberPosts{}
	}
	if of.reading >= maxPostsPerMember || p.all.reading >= maxPosts || !isPeer && p.others.reading >= maxPostsOfOthers {
		return nil
	}
	p.byID[from] = of
	of.all++
	post := &incomingPost{incomingPosts: p, counts: []*memberPosts{of, &p.all}, from: from}
	if !isPeer {
		post.counts = append(post.counts, &p.others)
	}
	for _, c := range post.counts {
		c.reading++
	}
	return post
}

// wasRead says which message the body brought. It reports false if too many of its kind
// wait.
func (p *incomingPost) wasRead(m *raftpb.Message) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	k := queue.KindOf(m.GetType())
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

// queued says that a lane accounts for the memory of the message from now on.
func (p *incomingPost) queued() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.beyond -= p.beyondShare(0)
	p.bytes = 0
}

// reserve is for wire.Limits.
func (p *incomingPost) reserve(bytes uint64) error {
	if !p.grow(int64(bytes)) {
		return protocol.ErrBusyPosts
	}
	return nil
}

// beyondShare returns what the post would hold beyond its share with n more bytes.
func (p *incomingPost) beyondShare(n int64) int64 { return max(p.bytes+n-p.maxBytes/maxPosts, 0) }

// grow reports whether there is room for n more bytes, of the body or in memory. Each post has a
// share that the others cannot take. What they hold beyond theirs is bounded if it is of several: one
// may be larger.
func (p *incomingPost) grow(n int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	others := p.beyond - p.beyondShare(0)
	after := p.beyondShare(n)
	if after > 0 && others > 0 && others+after > p.maxBytes {
		return false
	}
	p.bytes += n
	p.beyond = others + after
	return true
}

func (p *incomingPost) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.beyond -= p.beyondShare(0)
	for _, c := range p.counts {
		if p.read {
			c.waiting[p.kind]--
		} else {
			c.reading--
		}
	}
	of := p.counts[0]
	if of.all--; of.all == 0 {
		delete(p.byID, p.from)
	}
}

// postBody is the body of a post: it has a minimum rate, and counts against what
// all of them may have.
type postBody struct {
	*progressReader
	post *incomingPost
}

func (q *request) postBody(post *incomingPost) *postBody {
	b := &postBody{q.body(), post}
	b.started = time.Now()
	return b
}

// Read implements io.Reader.
func (b *postBody) Read(p []byte) (int, error) {
	n, err := b.progressReader.Read(p)
	if n > 0 && !b.post.grow(int64(n)) {
		return 0, protocol.ErrBusyPosts
	}
	return n, err
}
