package snapshot

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"syscall"

	"github.com/seed-4d73690b/rafthttp/internal/conn"
	"github.com/seed-4d73690b/rafthttp/internal/errs"
	"github.com/seed-4d73690b/rafthttp/internal/protocol"
	"github.com/seed-4d73690b/rafthttp/internal/socket"
	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

// takeOverBytes is how many bytes of a database must still be missing to take its connection over from the server,
// which saves copying.
const takeOverBytes = 256 << 10

// database is the database of an incoming snapshot, as passed to the Snapshotter. It knows its length if the sender
// declared it.
type database struct {
	rec       *reception
	src       *wire.Reader // the body, after the bytes read with the head
	body      *conn.RequestBody
	remaining int64    // bytes still to come; -1: unknown
	source    net.Conn // the kernel can move its bytes to a file; nil: none
	rest      *rawBody // of a connection that was taken over
	err       error    // what ended the body
}

// Len returns how many bytes are still to come, below 0 if unknown.
func (d *database) Len() int64 { return d.remaining }

// Read implements io.Reader.
func (d *database) Read(p []byte) (int, error) {
	if d.rec.plan.Resumable && d.remaining == 0 {
		return 0, io.EOF
	}
	if d.rec.plan.Resumable { // a trailer follows
		p = p[:min(int64(len(p)), d.remaining)]
	}
	d.rec.transfer.waits.begin(d.rec.receiver.cfg.ReadTimeout + d.rec.receiver.cfg.workInterval())
	n, err := d.src.Read(p)
	d.rec.transfer.waits.end()
	if d.remaining >= 0 {
		d.remaining -= int64(n)
	}
	d.rec.transfer.add(int64(n))
	switch {
	case err == nil, errors.Is(err, io.EOF) && d.remaining <= 0:
		return n, err
	case errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF
	}
	return n, d.fail(err)
}

// fail notes why the body ended.
func (d *database) fail(err error) error {
	err = broke(d.body, err)
	if d.err == nil {
		d.err = err
	}
	return err
}

// incomplete returns why the Saver cannot have received the complete database.
func (d *database) incomplete() error {
	switch {
	case d.err != nil:
		return d.err
	case d.remaining > 0:
		return fmt.Errorf("the last %d bytes were not read", d.remaining)
	case d.remaining < 0 && (d.src.Buffered() > 0 || d.body.Err() == nil):
		return errors.New("it was not read to its end")
	}
	return nil
}

// WriteTo implements io.WriterTo: it copies with large buffers, or lets the kernel move the bytes from a TCP
// connection to a file: w is an *os.File, or an io.ReaderFrom with a method File that returns one.
func (d *database) WriteTo(w io.Writer) (total int64, err error) {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	file := d.splicer(w)
	for {
		p := *buf
		if file != nil {
			prefetched := d.src.Buffered() + len(d.rest.prefetched)
			if prefetched == 0 {
				n, err := d.splice(file)
				return total + n, err
			}
			p = p[:min(len(p), prefetched)]
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

// fill reads until p is full: over TLS at most 16 KiB arrive at a time.
func (d *database) fill(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var m int
		m, err = d.Read(p[n:])
		n += m
	}
	return n, err
}

// splicer returns the destination to which the kernel can move bytes, or nil. It does not use the file itself: w
// decides what ReadFrom does with the bytes.
func (d *database) splicer(w io.Writer) io.ReaderFrom {
	rf, ok := w.(io.ReaderFrom)
	if d.source == nil || !ok {
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

// splice lets the kernel move the rest of the database. It checks for progress every workInterval.
func (d *database) splice(w io.ReaderFrom) (total int64, err error) {
	for patience := d.rec.receiver.cfg.ReadTimeout; d.remaining > 0; {
		step := min(patience, d.rec.receiver.cfg.workInterval())
		if err := d.body.Extend(step); err != nil {
			return total, d.fail(err)
		}
		d.rec.transfer.waits.begin(step + d.rec.receiver.cfg.workInterval())
		n, err := w.ReadFrom(&io.LimitedReader{R: d.source, N: min(d.remaining, sliceBytes)})
		d.rec.transfer.waits.end()
		total += n
		d.remaining -= n
		d.rest.remaining -= n
		d.rec.transfer.add(n)
		late := errors.Is(err, os.ErrDeadlineExceeded)
		switch {
		case n > 0 && (err == nil || late):
			patience = d.rec.receiver.cfg.ReadTimeout
		case late:
			if patience -= step; patience <= 0 {
				return total, d.fail(errs.ErrStalled)
			}
		case err == nil:
			return total, d.fail(io.ErrUnexpectedEOF)
		case errors.Is(err, syscall.EINVAL): // bytes in transit are lost
			d.rec.receiver.noSplice.Store(true)
			return total, d.fail(err)
		case isNetworkError(err):
			return total, d.fail(err)
		default:
			return total, err
		}
	}
	return total, nil
}

// isNetworkError tells errors of the connection from those of the file that the kernel moves bytes to: one call returns
// both.
func isNetworkError(err error) bool {
	var op *net.OpError
	if errors.As(err, &op) || errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return true
	}
	return slices.ContainsFunc(networkErrors, func(e error) bool { return errors.Is(err, e) })
}

// networkErrors are errors of reading from a TCP connection.
var networkErrors = []error{
	syscall.ECONNRESET, syscall.ETIMEDOUT, syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.ENETDOWN, syscall.ECONNABORTED,
	syscall.ECONNREFUSED, syscall.ENOTCONN, syscall.EPIPE, syscall.EPROTO, syscall.ENOPROTOOPT,
}

// trailer reads the checksum after the database.
func (d *database) trailer() (uint32, error) {
	var b [protocol.SnapshotTrailerBytes]byte
	d.rec.transfer.waits.begin(d.rec.receiver.cfg.ReadTimeout + d.rec.receiver.cfg.workInterval())
	defer d.rec.transfer.waits.end()
	if _, err := io.ReadFull(d.src, b[:]); err != nil {
		return 0, d.fail(err)
	}
	sum := binary.BigEndian.Uint32(b[:])
	d.rec.sum = &sum
	return sum, nil
}

// takeOver takes the connection over from the server, if that saves copying, or if the sender must be told that the
// receiver is working. The caller stops the result, which may be nil.
func (d *database) takeOver(ctx context.Context) *workReporter {
	asked := d.rec.plan.TellsWork && d.remaining >= 0
	splices := d.remaining >= takeOverBytes && d.rec.transfer.tls == nil && !d.rec.receiver.noSplice.Load()
	if !asked && !splices {
		return nil
	}
	remaining := d.body.Length() - d.body.BytesRead()
	c, prefetched, err := d.rec.in.Hijack(remaining == 0)
	if err != nil {
		return nil
	}
	d.rest = &rawBody{conn: c, prefetched: prefetched, remaining: remaining}
	if splices && socket.Files(c) != nil {
		d.source = c
	}
	d.body.Replace(d.rest, c.SetReadDeadline)
	d.rec.in.Respond(&Response{conn: c, body: d.rest})
	if !asked {
		return nil
	}
	return reportWork(ctx, c, d.rec.receiver.cfg.workInterval(), &d.rec.transfer.waits)
}
