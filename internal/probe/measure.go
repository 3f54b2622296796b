package probe

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"

	"github.com/seed-4d73690b/rafthttp/internal/conn"
	"github.com/seed-4d73690b/rafthttp/internal/protocol"
)

// Target is the peer to probe, and the configuration of probes.
type Target struct {
	Dialer    *conn.Dialer
	ClusterID types.ID      // used by a Mux
	Timeout   time.Duration // from the request to the end of the answer
	// Conclude returns the meaning of an answer, nil for success.
	Conclude func(*http.Response, protocol.Endpoint) error
	// Unreachable is called for a URL without a connection or an answer.
	Unreachable func(url.URL)
}

// Measure makes one probe at a peer URL (PROTOCOL.md, section 1), on a separate connection. It returns the round-trip
// time, and the peer's clock minus ours. It blocks until there is an answer, or ctx ends.
func (t Target) Measure(ctx context.Context, u url.URL) (rtt, offset time.Duration, err error) {
	req, err := conn.NewGet(u, protocol.ProbingPath, http.Header{protocol.HeaderClusterID: {t.ClusterID.String()}})
	if err != nil {
		return 0, 0, err
	}
	req.Close = true
	c, err := t.Dialer.Connect(ctx, u)
	if err != nil {
		t.Unreachable(u)
		return 0, 0, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	start := time.Now()
	if err := c.SetDeadline(start.Add(t.Timeout)); err != nil {
		return 0, 0, err
	}
	if err := req.Write(c); err != nil {
		t.Unreachable(u)
		return 0, 0, err
	}
	answer, err := conn.ReadAnswer(c, req, protocol.MaxAnswerBytes)
	if err != nil {
		t.Unreachable(u)
		return 0, 0, err
	}
	if err := t.Conclude(answer.Response, protocol.EndpointProbe); err != nil {
		return 0, 0, err
	}
	now, err := protocol.ReadProbeAnswer(answer.Body)
	if err != nil {
		return 0, 0, err
	}
	rtt = time.Since(start)
	return rtt, now.Sub(start.Add(rtt / 2)), nil
}
