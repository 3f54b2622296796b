package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/conn"
	"github.com/seed-4d73690b/rafthttp/internal/errs"
	"github.com/seed-4d73690b/rafthttp/internal/protocol"
)

// post sends one body to the peer's current URL (PROTOCOL.md, section 1).
func (p *Pipeline) post(body []byte, t raftpb.MessageType) error {
	ctx, pace, stop := conn.NewBodyPace(p.member.Ctx, body, p.member.Cfg.PostTimeout(), errs.ErrStalled)
	defer stop()
	u := p.member.URLs.Pick()
	target, err := conn.RequestURL(u, protocol.RaftPath)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), pace.Body())
	if err != nil {
		return err
	}
	req.ContentLength = int64(len(body))
	req.GetBody = func() (io.ReadCloser, error) { return pace.Body(), nil }
	req.Header = p.member.Cfg.RequestHeader()
	req.Header.Set("Content-Type", "application/protobuf")
	if t != raftpb.MsgProp {
		// A repeated message is harmless to raft, except a proposal, which would be appended
		// twice. With this key present, and not sent, net/http repeats a POST on a
		// connection that the peer was closing.
		req.Header["Idempotency-Key"] = nil
	}
	resp, err := p.member.PostClient.RoundTrip(req)
	if err == nil {
		err = p.member.Cfg.Conclude(resp, protocol.EndpointPost)
		_, _ = io.CopyN(io.Discard, resp.Body, protocol.MaxAnswerBytes)
		resp.Body.Close()
	}
	if err != nil {
		p.member.URLs.Unreachable(u)
		if errors.Is(context.Cause(ctx), errs.ErrStalled) && !pace.Began() {
			return fmt.Errorf("post to %s at %s: %w: a POST waits %v for one", p.member.RemoteID, u.String(), conn.ErrDialTimeout, p.member.Cfg.PostTimeout())
		}
		return fmt.Errorf("post to %s at %s: %w", p.member.RemoteID, u.String(), conn.CauseOf(ctx, err))
	}
	return nil
}
