package rafthttp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"time"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// exchange sends a GET on the connection and reads its answer, whose body is in
// memory.
func (t *outgoingSnapshot) exchange(conn *snapshotConn, path string, more http.Header) (*http.Response, error) {
	target := *conn.target
	target.Path = path
	req := &http.Request{Method: http.MethodGet, URL: &target, Host: target.Host, Header: t.requestHeader()}
	for name, values := range more {
		req.Header[name] = values
	}
	if err := req.Write(conn); err != nil {
		return nil, err
	}
	resp, err := conn.readAnswer(req, func(*http.Response) {})
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSnapshotCut, err)
	}
	if len(text) > maxAnswerBytes {
		return nil, errors.New("the answer is too long")
	}
	resp.Body = io.NopCloser(bytes.NewReader(text))
	return resp, nil
}

// sumTo goes to offset and reports whether the bytes before it have this sum. It
// reads those that were not read yet, unless that takes too long.
func (t *outgoingSnapshot) sumTo(ctx context.Context, offset int64, sum uint32) (bool, error) {
	t.sums.back(offset)
	if err := t.db.seek(t.sums.at); err != nil {
		return false, err
	}
	buf := snapshotBuffers.Get().(*[]byte)
	defer snapshotBuffers.Put(buf)
	start := time.Now()
	for t.sums.at < offset {
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		if time.Since(start) > maxSumming {
			return false, nil
		}
		n, err := t.db.Read((*buf)[:min(int64(len(*buf)), offset-t.sums.at)])
		t.sums.update((*buf)[:n])
		t.moved.Add(1)
		if err != nil && !(errors.Is(err, io.EOF) && t.sums.at == offset) {
			return false, err
		}
	}
	return t.sums.sum == sum, nil
}

// sumFile takes n bytes of the file into the sum, from at on.
func (t *outgoingSnapshot) sumFile(at, n int64, buf []byte) error {
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
			return fmt.Errorf("%w: it ended %d bytes early", ErrSnapshotShort, t.size-at)
		case err != nil && !errors.Is(err, io.EOF):
			return fmt.Errorf("%w: %w", ErrSnapshotReader, err)
		}
	}
	return nil
}

// maxCheckpoints bounds the memory of checksums.
const maxCheckpoints = 1024

// checksums is a running CRC-32C that can go back without reading all again. The
// zero value is that of nothing.
type checksums struct {
	at   int64
	sum  uint32
	step int64 // bytes between two of past
	past []checkpoint
}

type checkpoint struct {
	at  int64
	sum uint32
}

func (c *checksums) update(p []byte) {
	c.sum = crc32.Update(c.sum, castagnoli, p)
	c.at += int64(len(p))
	if c.step == 0 {
		c.step = snapshotSlice
	}
	if last := len(c.past); last > 0 && c.at-c.past[last-1].at < c.step || c.at < c.step {
		return
	}
	if len(c.past) == maxCheckpoints { // keep every other
		kept := c.past[:0]
		for i := 1; i < len(c.past); i += 2 {
			kept = append(kept, c.past[i])
		}
		c.past, c.step = kept, 2*c.step
	}
	c.past = append(c.past, checkpoint{c.at, c.sum})
}

// back goes to the last known sum at offset or before it, unless it is there.
func (c *checksums) back(offset int64) {
	if c.at <= offset {
		return
	}
	for len(c.past) > 0 && c.past[len(c.past)-1].at > offset {
		c.past = c.past[:len(c.past)-1]
	}
	c.at, c.sum = 0, 0
	if n := len(c.past); n > 0 {
		c.at, c.sum = c.past[n-1].at, c.past[n-1].sum
	}
}
