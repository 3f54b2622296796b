package snapshot

import (
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/seed-4d73690b/rafthttp/internal/conn"
	"github.com/seed-4d73690b/rafthttp/internal/errs"
	"github.com/seed-4d73690b/rafthttp/internal/protocol"
)

// broke adds that the connection of a body is the cause, unless err says more.
func broke(b *conn.RequestBody, err error) error {
	stopped := b.Stopped()
	if !errors.Is(err, errs.ErrStalled) && !errors.Is(err, protocol.ErrSnapshotCut) && (stopped == nil || !errors.Is(err, stopped)) {
		err = fmt.Errorf("%w: %w", protocol.ErrSnapshotCut, err)
	}
	return err
}

// rawBody is the rest of a body with a declared length, on a connection that was taken over.
type rawBody struct {
	conn       net.Conn
	prefetched []byte // precedes the bytes of conn
	remaining  int64
}

// Read implements io.Reader.
func (b *rawBody) Read(p []byte) (n int, err error) {
	if b.remaining <= 0 {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), b.remaining)]
	if len(b.prefetched) > 0 {
		n = copy(p, b.prefetched)
		b.prefetched = b.prefetched[n:]
	} else {
		n, err = b.conn.Read(p)
	}
	b.remaining -= int64(n)
	if errors.Is(err, io.EOF) && b.remaining > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}
