package postlimit

import (
	"io"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/conn"
	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

// Read reads the body of the POST, which is one message. The bytes read, and the memory of the
// message, count against the limit of all POSTs: over it the error is ErrBusyPosts.
func (p *Post) Read(body *conn.RequestBody, lim wire.Limits) (*raftpb.Message, error) {
	lim.Reserve = p.Reserve
	counted, length := p.Counted(body), body.Length()
	if length >= 0 {
		return wire.ReadMessage(wire.NewReader(counted), uint64(length), lim)
	}
	b, err := wire.ReadBody(counted, length, lim.MaxMessageBytes)
	if err != nil {
		return nil, err
	}
	return wire.UnmarshalMessage(b, lim)
}

// Counted returns a body that counts against the limit of all POSTs.
func (p *Post) Counted(body io.Reader) io.Reader { return &reserving{body, p} }

// reserving makes room for each byte of a body.
type reserving struct {
	body io.Reader
	post *Post
}

// Read implements io.Reader.
func (r *reserving) Read(p []byte) (int, error) {
	n, err := r.body.Read(p)
	if n > 0 {
		if busy := r.post.Reserve(uint64(n)); busy != nil {
			return 0, busy
		}
	}
	return n, err
}
