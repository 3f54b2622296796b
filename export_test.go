package rafthttp

import (
	"context"
	"net"
	"net/url"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
)

// DialPlain dials as a Transport with these fields does, without DialContext.
func (t *Transport) DialPlain(ctx context.Context, addr string) (net.Conn, error) {
	s, err := t.settings()
	if err != nil {
		return nil, err
	}
	return s.Dial(ctx, "tcp", addr)
}

// QueuePosts gives messages to the pipeline of a peer, as a Send does that was under way when the peer was cut.
func (t *Transport) QueuePosts(peer types.ID, msgs []*raftpb.Message) {
	p := t.peer(peer)
	p.routes.Offer(p.pipeline.QueueOf(msgs[0].GetType()), msgs)
}

// Loggers returns what all lines about one peer, and what all others are logged by.
func (t *Transport) Loggers(peer types.ID) (ofPeer, ofOthers *zap.Logger) {
	return t.peer(peer).member.Log, t.engine.Load().cfg.Log
}

// LanesRemembered returns how many receive lanes there are of members that are no peers,
// and of which kinds of which members there are earlier ones to wait for.
func (t *Transport) LanesRemembered() (guests, earlier int) {
	return t.engine.Load().receiveQueues.Remembered()
}

// MembersToldOf returns of how many members something tells, or is being told.
func (t *Transport) MembersToldOf() int {
	return t.engine.Load().cfg.Notifiers.Len()
}

// Heard is what a post of a peer that was processed does, without a change of goroutines.
func (t *Transport) Heard(peer types.ID) { t.peer(peer).member.Activity.PostOf() }

// URLPicker is the picker of a peer's URLs.
type URLPicker struct{ p *urlPicker }

func NewURLPicker(urls ...string) URLPicker {
	return URLPicker{newURLPicker(types.MustNewURLs(urls))}
}

func (p URLPicker) Pick() url.URL            { return p.p.Pick() }
func (p URLPicker) Unreachable(u url.URL)    { p.p.Unreachable(u) }
func (p URLPicker) Update(urls ...string)    { p.p.Update(types.MustNewURLs(urls)) }
func (p URLPicker) Same(urls ...string) bool { return p.p.Same(types.MustNewURLs(urls)) }
func (p URLPicker) List() []string           { return p.p.List() }
