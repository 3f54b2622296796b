package rafthttp

import (
	"sync"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
)

const (
	// maxPosts bounds the posts that are read and processed at once, and
	// maxPostsPerMember those of one member, which makes twelve at a time.
	maxPosts          = 256
	maxPostsPerMember = 16
	// postBytesPart is the part of MaxQueuedBytes that their bodies may have.
	postBytesPart = 4
	// minPostRate is how fast a body must come, in bytes a second, beyond the time
	// that any post may take.
	minPostRate = 16 << 10
)

// incomingPosts bounds the posts under way. It is safe for concurrent use.
type incomingPosts struct {
	maxBytes int64

	mu    sync.Mutex
	all   int
	byID  map[types.ID]int
	bytes int64 // of bodies that were read
}

func newIncomingPosts(maxQueuedBytes int64) *incomingPosts {
	return &incomingPosts{maxBytes: max(1, maxQueuedBytes/postBytesPart), byID: map[types.ID]int{}}
}

// begin reports whether there is room for one more post of a member. What it let
// in must end.
func (p *incomingPosts) begin(from types.ID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.all >= maxPosts || p.byID[from] >= maxPostsPerMember {
		return false
	}
	p.all++
	p.byID[from]++
	return true
}

// grow reports whether there is room for n more bytes of a body that has some
// already: the bound is for several together, not for one.
func (p *incomingPosts) grow(has, n int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bytes > has && p.bytes+n > p.maxBytes {
		return false
	}
	p.bytes += n
	return true
}

func (p *incomingPosts) end(from types.ID, has int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all--
	p.bytes -= has
	if p.byID[from]--; p.byID[from] == 0 {
		delete(p.byID, from)
	}
}

// postBody is the body of a post: it has a minimum rate, and counts against what
// all of them may have.
type postBody struct {
	*progressReader
	held int64
}

func (q *request) postBody() *postBody {
	b := &postBody{progressReader: q.body()}
	b.started = time.Now()
	return b
}

// Read implements io.Reader.
func (b *postBody) Read(p []byte) (int, error) {
	n, err := b.progressReader.Read(p)
	if n > 0 {
		if !b.q.posts.grow(b.held, int64(n)) {
			return 0, errBusyPosts
		}
		b.held += int64(n)
	}
	return n, err
}
