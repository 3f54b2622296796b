package rafthttp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"github.com/seed-4d73690b/rafthttp/internal/snapshot"
	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

const (
	// takeOverBytes is how much of a database there must be still to come for its
	// connection to be taken over from the server.
	takeOverBytes = 256 << 10
)

// databaseReader is the database of an incoming snapshot as the Snapshotter gets
// it. It knows its length where the sender declared it.
type databaseReader struct {
	q        *request
	t        *incomingSnapshot
	src      *wire.Reader // the body, behind what was read with the head
	body     *progressReader
	left     int64 // still to come; -1: not known
	trailing bool  // a trailer follows
	tcp      *net.TCPConn
	rest     *rawBody // of a connection that was taken over
	waits    networkWaits
	err      error // what ended the body
}

// Len returns how many bytes are still to come, below 0 if that is not known.
func (d *databaseReader) Len() int64 { return d.left }

// Read implements io.Reader.
func (d *databaseReader) Read(p []byte) (int, error) {
	if d.trailing && d.left == 0 {
		return 0, io.EOF
	}
	if d.trailing {
		p = p[:min(int64(len(p)), d.left)]
	}
	d.waits.begin(d.q.readTimeout + d.q.workInterval())
	n, err := d.src.Read(p)
	d.waits.end()
	if d.left >= 0 {
		d.left -= int64(n)
	}
	d.t.Add(int64(n))
	switch {
	case err == nil, errors.Is(err, io.EOF) && d.left <= 0:
		return n, err
	case errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF
	}
	return n, d.fail(err)
}

// fail says that a connection is at fault, unless err says more.
func (d *databaseReader) fail(err error) error {
	if !errors.Is(err, ErrStalled) && !errors.Is(err, ErrStopped) && !errors.Is(err, ErrSnapshotCut) {
		err = fmt.Errorf("%w: %w", ErrSnapshotCut, err)
	}
	if d.err == nil {
		d.err = err
	}
	return err
}

// WriteTo implements io.WriterTo: it copies with large buffers, or has the kernel
// move the bytes where they come from a TCP connection and go to a file: w is an
// *os.File, or an io.ReaderFrom with a method File that returns one.
func (d *databaseReader) WriteTo(w io.Writer) (total int64, err error) {
	buf := snapshot.Buffers.Get().(*[]byte)
	defer snapshot.Buffers.Put(buf)
	file := d.splicer(w)
	for {
		p := *buf
		if file != nil {
			read := d.src.Buffered() + len(d.rest.read)
			if read == 0 {
				n, err := d.splice(file)
				return total + n, err
			}
			p = p[:min(len(p), read)]
		}
		n, rerr := d.fill(p)
		if n > 0 {
			written, err := w.Write(p[:n])
			total += int64(written)
			if err != nil {
				return total, err
			}
		}
		if errors.Is(rerr, io.EOF) {
			return total, nil
		}
		if rerr != nil {
			return total, rerr
		}
	}
}

// fill reads until p is full: over TLS no more than 16 KiB come at once.
func (d *databaseReader) fill(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var m int
		m, err = d.Read(p[n:])
		n += m
	}
	return n, err
}

// splicer returns what the kernel can move bytes to, or nil. The file itself is not
// touched: what ReadFrom makes of the bytes is up to w.
func (d *databaseReader) splicer(w io.Writer) io.ReaderFrom {
	rf, ok := w.(io.ReaderFrom)
	if d.tcp == nil || !ok {
		return nil
	}
	if _, ok := w.(*os.File); ok {
		return rf
	}
	if f, ok := w.(interface{ File() *os.File }); ok && f.File() != nil {
		return rf
	}
	return nil
}

// splice has the kernel move the rest of the database.
func (d *databaseReader) splice(w io.ReaderFrom) (total int64, err error) {
	for still := 0; d.left > 0; {
		if err := d.body.extend(d.q.readTimeout / snapshot.StallTicks); err != nil {
			return total, d.fail(err)
		}
		d.waits.begin(d.q.readTimeout/snapshot.StallTicks + d.q.workInterval())
		n, err := w.ReadFrom(&io.LimitedReader{R: d.tcp, N: min(d.left, snapshot.SliceBytes)})
		d.waits.end()
		total += n
		d.left -= n
		d.rest.left -= n
		d.t.Add(n)
		late := errors.Is(err, os.ErrDeadlineExceeded)
		switch {
		case n > 0 && (err == nil || late):
			still = 0
		case late:
			if still++; still == snapshot.StallTicks {
				return total, d.fail(ErrStalled)
			}
		case err == nil:
			return total, d.fail(io.ErrUnexpectedEOF)
		default:
			if errors.Is(err, syscall.EINVAL) { // what was on its way is lost
				d.q.receiving.noSplice.Store(true)
			}
			return total, d.fail(err)
		}
	}
	return total, nil
}

// trailer reads the checksum behind the database.
func (d *databaseReader) trailer() (uint32, error) {
	var b [snapshot.TrailerBytes]byte
	d.waits.begin(d.q.readTimeout + d.q.workInterval())
	defer d.waits.end()
	if _, err := io.ReadFull(d.src, b[:]); err != nil {
		return 0, d.fail(err)
	}
	return binary.BigEndian.Uint32(b[:]), nil
}

// takeOver takes the connection over from the server, where that saves copying, or where
// the sender is to be told that we are at work. The caller stops what it returns, which
// may be nil.
func (d *databaseReader) takeOver() *workReporter {
	q := d.q
	asked := snapshot.States(q.r.Header, snapshot.ExtensionWorking) && d.left >= 0
	splices := d.left >= takeOverBytes && q.r.TLS == nil && !q.receiving.noSplice.Load()
	// A sender that closes the connection anyway does not mind if we do.
	if !q.r.Close || q.r.ProtoMajor != 1 || !asked && !splices {
		return nil
	}
	rest := q.r.ContentLength - int64(d.body.bytes)
	if rest == 0 {
		q.pauseBeforeHijack()
	}
	conn, buf, err := q.rc.Hijack()
	if err != nil {
		return nil
	}
	raw := release(conn)
	read, _ := buf.Reader.Peek(buf.Reader.Buffered())
	d.rest = &rawBody{conn: raw, read: read, left: rest}
	if splices {
		d.tcp, _ = raw.(*net.TCPConn)
	}
	d.body.replace(d.rest, raw.SetReadDeadline)
	q.taken = &takenResponse{conn: raw, header: q.w.Header().Clone(), body: d.rest}
	q.w = q.taken
	if !asked {
		return nil
	}
	return reportWork(q.ctx, raw, q.workInterval(), &d.waits)
}

// rawBody is the rest of a body whose length was declared.
type rawBody struct {
	conn net.Conn
	read []byte // comes before what conn brings
	left int64
}

// Read implements io.Reader.
func (b *rawBody) Read(p []byte) (n int, err error) {
	if b.left <= 0 {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), b.left)]
	if len(b.read) > 0 {
		n = copy(p, b.read)
		b.read = b.read[n:]
	} else {
		n, err = b.conn.Read(p)
	}
	b.left -= int64(n)
	if errors.Is(err, io.EOF) && b.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}
