package rafthttp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/seed-4d73690b/rafthttp/internal/snapshot"
)

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
	t.sums.Back(offset)
	if err := t.db.GoTo(t.sums.At); err != nil {
		return false, err
	}
	buf := snapshot.Buffers.Get().(*[]byte)
	defer snapshot.Buffers.Put(buf)
	start := time.Now()
	for t.sums.At < offset {
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		if time.Since(start) > maxSumming {
			return false, nil
		}
		n, err := t.db.Read((*buf)[:min(int64(len(*buf)), offset-t.sums.At)])
		t.sums.Update((*buf)[:n])
		t.moved.Add(1)
		if err != nil && !(errors.Is(err, io.EOF) && t.sums.At == offset) {
			return false, err
		}
	}
	return t.sums.Sum == sum, nil
}

// sumFile takes n bytes of the file into the sum, from at on.
func (t *outgoingSnapshot) sumFile(at, n int64, buf []byte) error {
	t.db.Reading.Store(true)
	defer t.db.Reading.Store(false)
	for end := at + n; at < end; {
		p := buf[:min(int64(len(buf)), end-at)]
		m, err := t.db.File.ReadAt(p, t.db.Base+at)
		t.sums.Update(p[:m])
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
