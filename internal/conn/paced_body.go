package conn

import (
	"bytes"
	"context"
	"io"
	"sync/atomic"
	"time"
)

// minPostRate is the minimum rate of the body of a request, in bytes a second, beyond the time that any request may
// take.
const minPostRate = 16 << 10

// TimeForBody returns how long this many bytes may take at the minimum rate.
func TimeForBody(bytes uint64) time.Duration {
	return time.Duration(bytes) * (time.Second / minPostRate) // in this order it does not overflow
}

// BodyPace aborts a request by the rule of its receiver for the body: it may make no progress for at most the stall
// timeout, and may take at most that and TimeForBody together.
type BodyPace struct {
	body  []byte
	stall time.Duration
	end   time.Time // of the complete body
	timer *time.Timer
	began atomic.Bool // the body is read, which is after there is a connection
}

// Began reports whether there was a connection for the request.
func (p *BodyPace) Began() bool { return p.began.Load() }

// NewBodyPace returns the pace of a request with a body, and its context. Stop releases both; stalled is the context's cause
// if the request was aborted.
func NewBodyPace(parent context.Context, body []byte, stall time.Duration, stalled error) (ctx context.Context, p *BodyPace, stop func()) {
	ctx, cancel := context.WithCancelCause(parent)
	p = &BodyPace{body: body, stall: stall, end: time.Now().Add(stall + TimeForBody(uint64(len(body))))}
	p.timer = time.AfterFunc(stall, func() { cancel(stalled) })
	return ctx, p, func() {
		p.timer.Stop()
		cancel(nil)
	}
}

// Body returns the body of the request, or of a repetition.
func (p *BodyPace) Body() io.ReadCloser {
	return io.NopCloser(&pacedBody{pace: p, rest: bytes.NewReader(p.body)})
}

// pacedBody is a body whose Reads report progress. It has no WriteTo, which would be one call for everything.
type pacedBody struct {
	pace *BodyPace
	rest *bytes.Reader
}

// Read implements io.Reader.
func (b *pacedBody) Read(p []byte) (int, error) {
	b.pace.began.Store(true)
	n, err := b.rest.Read(p)
	left := time.Until(b.pace.end)
	if b.rest.Len() > 0 { // the last bytes may still be in the system's buffers
		left = min(left, b.pace.stall)
	}
	b.pace.timer.Reset(left)
	return n, err
}
