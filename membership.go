package rafthttp

import (
	"maps"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp/internal/faultpoint"
	"github.com/seed-4d73690b/rafthttp/internal/member"
	"github.com/seed-4d73690b/rafthttp/internal/receive"
)

// AddPeer adds a member of the cluster: its streams are dialled from now on, and
// it may dial ours. For a member that is a peer already, and for the local one,
// it does nothing. It panics, naming it, if a URL is invalid or the id is 0, and
// after Stop. A ConfChange whose NodeId is 0 was refused: it adds no member.
func (t *Transport) AddPeer(id types.ID, urls []string) {
	us := member.MustMember("AddPeer", id, urls)
	e := t.engine.Load()
	if e == nil {
		panic("rafthttp: AddPeer before Start")
	}
	if id == e.cfg.ID {
		return
	}
	if p := e.addPeer(id, us); p != nil {
		p.member.Log.Info("added a peer", zap.Strings("urls", us.StringSlice()))
		p.start()
	}
}

// addPeer returns a new peer, not yet started, or nil if there is one.
func (e *engine) addPeer(id types.ID, urls types.URLs) *peer {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopped {
		panic("rafthttp: AddPeer after Stop: transport stopped")
	}
	if e.peerOf(id) != nil {
		return nil
	}
	p := newPeer(e, id, urls)
	p.member.Paused.Store(e.remotes.IsPaused(id)) // no message is accepted meanwhile
	peers := maps.Clone(e.peerMap())
	peers[id] = p
	e.receiveQueues.Replace([]*receive.Receivers{&p.receivers}, nil, func() { e.peers.Store(&peers) })
	select {
	case e.added <- struct{}{}:
	default:
	}
	// After the peer is added: a message sent meanwhile finds one of them.
	if old := e.remotes.Remove(id, ErrPeerRemoved); old != nil {
		e.wg.Go(old.Member.Join)
	}
	return p
}

// RemovePeer removes a peer. Connections to it are closed; queued messages to it
// are reported, and snapshots to it fail. It does not wait: callbacks for
// the peer may still come until its last Process has returned, and reports and
// observer calls later, for as long as an earlier one of that member takes. For a member that
// is not a peer it does nothing.
func (t *Transport) RemovePeer(id types.ID) { t.remove(func(p types.ID) bool { return p == id }) }

// RemoveAllPeers removes all peers like RemovePeer.
func (t *Transport) RemoveAllPeers() { t.remove(func(types.ID) bool { return true }) }

func (t *Transport) remove(which func(types.ID) bool) {
	e := t.engine.Load()
	if e == nil {
		return
	}
	for _, p := range e.removePeers(which) {
		p.member.Log.Info("removed a peer")
		go func() {
			defer e.leave()
			faultpoint.Hit(faultpoint.PeerRemoved)
			p.stop()
			e.receiveQueues.Ended(&p.receivers)
			e.mu.Lock()
			defer e.mu.Unlock()
			delete(e.ending, p)
		}()
	}
}

// removePeers removes and returns peers, which the caller must stop. Stop waits for each of
// them until leave is called.
func (e *engine) removePeers(which func(types.ID) bool) (removed []*peer) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopped {
		return nil
	}
	peers := maps.Clone(e.peerMap())
	for id, p := range peers {
		if which(id) {
			delete(peers, id)
			removed = append(removed, p)
			e.ending[p] = struct{}{}
			e.wg.Add(1)
			p.member.Activity.End(ErrPeerRemoved) // reported before the events of the next peer with the id
		}
	}
	e.receiveQueues.Replace(nil, receiversOf(removed), func() { e.peers.Store(&peers) })
	return removed
}

// SetURLs changes the peer URLs of the local member that requests to others state,
// in place of the field URLs; none: not stated. Before Start, it takes the place of
// the field. Every later request states them; existing streams continue,
// since their members know the local one already and learn its new addresses
// by their own UpdatePeer, from an entry of the log. It does not block, copies
// urls, and may be called at any time by any goroutine. The error is a
// *ConfigError for a URL that Start would refuse; then nothing changes.
func (t *Transport) SetURLs(urls types.URLs) error {
	if err := validateURLs(urls); err != nil {
		return err
	}
	text := urls.String()
	t.urls.Store(&text)
	return nil
}

// SetConfState tells Health which members vote: only those count for a majority, and a
// joint configuration needs both. Pass what raft's ApplyConfChange returns, the ConfState of
// each snapshot that is installed, and at start that of the storage. Until then, and with nil
// or a ConfState without voters, Health takes every peer for a voter, learners as well. It has
// no other effect, does not block, copies cs, and may be called at any time, also before Start.
func (t *Transport) SetConfState(cs *raftpb.ConfState) {
	t.voters.Set(cs.GetVoters(), cs.GetVotersOutgoing())
}

// UpdatePeer moves a peer to other URLs: its streams are dialled again, including
// live ones. For a member that is not a peer, including a remote, it does nothing, like
// upstream's: it does not add one, use AddPeer. It panics, naming it, if a URL is
// invalid.
func (t *Transport) UpdatePeer(id types.ID, urls []string) {
	us := member.MustURLs("UpdatePeer", id, urls)
	e := t.engine.Load()
	if e == nil {
		return
	}
	if p := e.peerOf(id); p != nil {
		p.update(us)
		p.member.Log.Info("updated the URLs of a peer", zap.Strings("urls", us.StringSlice()))
	}
}

// ActiveSince returns when the peer became active: since then, streams from it
// deliver or POSTs succeed. It is the zero time for an inactive peer and
// for any other member.
func (t *Transport) ActiveSince(id types.ID) time.Time {
	if p := t.peer(id); p != nil {
		return p.activeSince()
	}
	return time.Time{}
}

// ActivePeers returns the number of active peers.
func (t *Transport) ActivePeers() (n int) {
	if e := t.engine.Load(); e != nil {
		for _, p := range e.peerMap() {
			if !p.activeSince().IsZero() {
				n++
			}
		}
	}
	return n
}

// Get returns the peer, or nil.
func (t *Transport) Get(id types.ID) Peer {
	if p := t.peer(id); p != nil {
		return p
	}
	return nil
}

// CutPeer drops all messages to and from a peer or a remote until MendPeer, also
// when a remote becomes a peer. This includes queued messages, but not those being
// written or processed at the moment. For any other member it does nothing. It is for
// tests.
func (t *Transport) CutPeer(id types.ID) { t.pause(id, true) }

// MendPeer ends CutPeer.
func (t *Transport) MendPeer(id types.ID) { t.pause(id, false) }

func (t *Transport) pause(id types.ID, paused bool) {
	e := t.engine.Load()
	if e == nil {
		return
	}
	e.mu.Lock() // so that no remote becomes a peer meanwhile
	defer e.mu.Unlock()
	if e.remotes.Pause(id, paused) {
		e.receiveQueues.Pause(id, paused)
	}
	if p := e.peerOf(id); p != nil {
		p.pause(paused)
	}
}

// Pause cuts all peers. It is for tests.
func (t *Transport) Pause() {
	if e := t.engine.Load(); e != nil {
		for _, p := range e.peerMap() {
			p.Pause()
		}
	}
}

// Resume ends Pause and CutPeer for all peers and remotes.
func (t *Transport) Resume() {
	e := t.engine.Load()
	if e == nil {
		return
	}
	e.mu.Lock() // as in pause
	defer e.mu.Unlock()
	for _, id := range e.remotes.IDs() {
		e.remotes.Pause(id, false)
		e.receiveQueues.Pause(id, false)
	}
	for _, p := range e.peerMap() {
		p.Resume()
	}
}

func (t *Transport) peer(id types.ID) *peer {
	if e := t.engine.Load(); e != nil {
		return e.peerOf(id)
	}
	return nil
}
