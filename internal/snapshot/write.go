package snapshot

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/conn"
	"github.com/seed-4d73690b/rafthttp/internal/protocol"
	"github.com/seed-4d73690b/rafthttp/internal/socket"
	"github.com/seed-4d73690b/rafthttp/internal/wire"
	"github.com/seed-4d73690b/rafthttp/snap"
)

const (
	// lastBytes of a database are copied through memory, so that its end is seen before the last
	// one is sent.
	lastBytes = 32 << 10
	// frameLength is how many bytes before a message state its length.
	frameLength = 8
)

// headOf returns the part of the body before the database.
func headOf(m *raftpb.Message) []byte {
	size := wire.MessageSize(m)
	head := binary.BigEndian.AppendUint64(make([]byte, 0, frameLength+size), uint64(size))
	return wire.AppendMessage(head, m)
}

// digest distinguishes heads without keeping them.
type digest struct {
	size int
	sum  uint64
}

var digestSeed = maphash.MakeSeed()

func digestOf(frame []byte) digest { return digest{len(frame), maphash.Bytes(digestSeed, frame)} }

// isOf reports whether d is the digest of the head with m.
func (d digest) isOf(m *raftpb.Message) bool {
	return d.size == frameLength+wire.MessageSize(m) && d == digestOf(headOf(m))
}

// readerOf returns the database of m, or nil.
func readerOf(m *snap.Message) io.Reader {
	if m.ReadCloser == nil {
		return nil
	}
	return m.ReadCloser
}

// write sends the request (PROTOCOL.md, sections 1 and 5; extensions: the
// snapshot).
func (t *transfer) write(ctx context.Context, pc *peerConn, p protocol.SnapshotPlan) error {
	w := &bodyWriter{t: t, conn: pc, sum: p.Resumable}
	if w.partial = conn.PartialWrites(pc.Conn); w.partial {
		w.files = socket.Files(pc.Conn)
	}
	length, err := p.ContentLength(len(t.frame), t.size, t.db.remaining)
	if err != nil {
		return err
	}
	h := t.sender.cfg.Peer.Header()
	h.Set("Host", pc.target.Host)
	h.Set("Content-Type", "application/octet-stream")
	p.StateIn(h, t.sender.cfg.To)
	if p.Resumable {
		t.id.StateIn(h)
	}
	h.Set("Content-Length", strconv.FormatInt(length, 10))
	h.Set("Connection", "close")
	if err := w.head(h); err != nil {
		return err
	}
	t.jump(p.Offset)
	if err := w.database(ctx); err != nil {
		return err
	}
	if !p.Resumable {
		return nil
	}
	return w.write(binary.BigEndian.AppendUint32(nil, t.sums.sum))
}

// bodyWriter writes one request.
type bodyWriter struct {
	t       *transfer
	conn    *peerConn
	files   socket.FileSender // conn, if the kernel can copy to it; or nil
	partial bool              // conn has partial writes
	pieces  conn.Pieces       // if it has none: perhaps the receiver gets nothing of one before it is complete
	sum     bool              // keep t.sums
}

// head writes everything before the database.
func (w *bodyWriter) head(h http.Header) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "POST %s HTTP/1.1\r\n", w.conn.target.RequestURI())
	if err := h.Write(&b); err != nil {
		return err
	}
	b.WriteString("\r\n")
	if len(w.t.frame) <= conn.MaxPiece { // in one write
		b.Write(w.t.frame)
		return w.write(b.Bytes())
	}
	if err := w.write(b.Bytes()); err != nil {
		return err
	}
	return w.write(w.t.frame)
}

// database copies the database, at the configured pace. The last byte is sent
// only after the reader has reported its end: a receiver must not consider an incomplete snapshot
// complete.
func (w *bodyWriter) database(ctx context.Context) error {
	t := w.t
	if t.db.remaining == 0 {
		return nil
	}
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	for {
		want := int(min(int64(len(*buf)), t.db.remaining))
		whole := t.db.file != nil && w.files != nil && t.db.remaining > lastBytes
		if whole {
			want = int(min(sliceBytes, t.db.remaining-lastBytes))
		}
		n, err := t.sender.cfg.Pace.grant(ctx, giveWay(ctx, t.sender.cfg.Peer.Busy, want))
		if err != nil {
			return err
		}
		t.moved.Add(1)
		if whole {
			err = w.sendfile(int64(n), *buf)
		} else {
			err = w.copy((*buf)[:min(n, len(*buf))])
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// copy moves some bytes through p. At the end of the database it returns io.EOF.
func (w *bodyWriter) copy(p []byte) error {
	t := w.t
	n, rerr := t.db.Read(p)
	t.moved.Add(1)
	if n > 0 {
		if w.sum {
			t.sums.update(p[:n])
		}
		if err := w.write(p[:n]); err != nil {
			return err
		}
		t.add(int64(n))
	}
	return rerr
}

// sendfile sends the next n bytes of the file, and sums them up meanwhile if requested.
func (w *bodyWriter) sendfile(n int64, buf []byte) error {
	if !w.sum {
		return w.move(n)
	}
	// They are read twice: from the cache, which is cheaper than copying them to the
	// socket. If they differ, the checksum does.
	summed, at := make(chan error, 1), w.t.db.at()
	go func() { summed <- w.t.sumFile(at, n, buf) }()
	err := w.move(n)
	if serr := <-summed; serr != nil {
		return serr
	}
	return err
}

// move lets the kernel send the next n bytes of the file.
func (w *bodyWriter) move(n int64) error {
	t := w.t
	for end := t.db.remaining - n; t.db.remaining > end; {
		if err := w.conn.SetWriteDeadline(time.Now().Add(conn.WriteTime(t.sender.cfg.Config.ReadTimeout))); err != nil {
			return err
		}
		sent, err := w.files.SendFile(t.db.file, t.db.remaining-end)
		t.db.skip(sent)
		t.add(sent)
		if sent > 0 {
			t.moved.Add(1)
		}
		if err != nil {
			// If the kernel does not copy, and after a deadline that had passed before it
			// began, Go has read more than it has sent.
			if _, err := t.db.file.Seek(t.db.base+t.db.at(), io.SeekStart); err != nil {
				return fmt.Errorf("%w: %w", ErrReader, err)
			}
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded): // the attempt decides for how long
		case err != nil:
			return err
		case sent == 0:
			return fmt.Errorf("%w: it ended %d bytes early", ErrShort, t.db.remaining)
		}
	}
	return nil
}

// write writes p to the connection and counts its progress.
func (w *bodyWriter) write(p []byte) error {
	for len(p) > 0 {
		chunk, begun := p, time.Now()
		if w.partial {
			if err := w.conn.SetWriteDeadline(begun.Add(conn.WriteTime(w.t.sender.cfg.Config.ReadTimeout))); err != nil {
				return err
			}
		} else {
			chunk = p[:w.pieces.Next(len(p))]
		}
		n, err := w.conn.Write(chunk)
		p = p[n:]
		if !w.partial {
			w.pieces.Took(n, time.Since(begun), min(w.t.sender.cfg.Config.ReadTimeout, DefaultTimeout))
		}
		if n > 0 {
			w.t.moved.Add(1)
		}
		if err != nil && !(w.partial && errors.Is(err, os.ErrDeadlineExceeded)) {
			return err
		}
	}
	return nil
}

// sumFile adds n bytes of the file to the sum, from at on.
func (t *transfer) sumFile(at, n int64, buf []byte) error {
	t.db.reading.Store(true)
	defer t.db.reading.Store(false)
	for end := at + n; at < end; {
		p := buf[:min(int64(len(buf)), end-at)]
		m, err := t.db.file.ReadAt(p, t.db.base+at)
		t.sums.update(p[:m])
		at += int64(m)
		t.moved.Add(1)
		switch {
		case errors.Is(err, io.EOF) && at < end:
			return fmt.Errorf("%w: it ended %d bytes early", ErrShort, t.size-at)
		case err != nil && !errors.Is(err, io.EOF):
			return fmt.Errorf("%w: %w", ErrReader, err)
		}
	}
	return nil
}
