package testmember

import (
	"net"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"

	"github.com/seed-4d73690b/rafthttp"
)

// ClusterID is the cluster of all members, unless a test says otherwise.
const ClusterID = types.ID(0xc1)

// Member is a Transport with a server.
type Member struct {
	*rafthttp.Transport
	Recorder *Recorder
	URL      string
	Server   *http.Server
}

// Start runs a member with a server on a free port of loopback. tune may change the Transport's fields before Start.
func Start(t testing.TB, id types.ID, tune func(*rafthttp.Transport)) *Member {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return StartOn(t, ln, id, tune)
}

// StartOn runs a member behind a listener, known by its address.
func StartOn(t testing.TB, ln net.Listener, id types.ID, tune func(*rafthttp.Transport)) *Member {
	t.Helper()
	return StartAt(t, ln, "http://"+ln.Addr().String(), id, tune)
}

// StartAt runs a member that is known by url.
func StartAt(t testing.TB, ln net.Listener, url string, id types.ID, tune func(*rafthttp.Transport)) *Member {
	t.Helper()
	return StartBy(t, func(h http.Handler) *http.Server { return &http.Server{Handler: h} }, ln, url, id, tune)
}

// StartBy runs a member by a server of the test's choice.
func StartBy(t testing.TB, by func(http.Handler) *http.Server, ln net.Listener, url string, id types.ID, tune func(*rafthttp.Transport)) *Member {
	t.Helper()
	m := &Member{Recorder: &Recorder{}, URL: url}
	m.Transport = &rafthttp.Transport{ID: id, ClusterID: ClusterID, Raft: m.Recorder, URLs: types.MustNewURLs([]string{m.URL})}
	if tune != nil {
		tune(m.Transport)
	}
	require.NoError(t, m.Start())
	m.Server = by(m.Handler())
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = m.Server.Serve(ln)
	}()
	t.Cleanup(func() {
		m.Stop()
		_ = m.Server.Close()
		<-served
	})
	return m
}

// Connect makes a and b peers and waits until all four streams are up.
func Connect(t testing.TB, a, b *Member) {
	t.Helper()
	a.AddPeer(b.ID, []string{b.URL})
	b.AddPeer(a.ID, []string{a.URL})
	WaitStreams(t, a, b.ID)
	WaitStreams(t, b, a.ID)
	Eventually(t, func() bool { return !a.ActiveSince(b.ID).IsZero() && !b.ActiveSince(a.ID).IsZero() })
}

// WaitStreams waits until m can write both streams to the peer.
func WaitStreams(t testing.TB, m *Member, peer types.ID) {
	t.Helper()
	Eventually(t, func() bool { return LaneOf(m, peer, "message").Up && LaneOf(m, peer, "msgapp").Up })
}

// LaneOf returns the status of one of a peer's lanes.
func LaneOf(m *Member, peer types.ID, name string) rafthttp.LaneStatus {
	for _, p := range m.Status().Peers {
		if p.ID != peer {
			continue
		}
		for _, l := range p.Lanes {
			if l.Name == name {
				return l
			}
		}
	}
	return rafthttp.LaneStatus{}
}

// Tuned applies several changes to a Transport.
func Tuned(all ...func(*rafthttp.Transport)) func(*rafthttp.Transport) {
	return func(tr *rafthttp.Transport) {
		for _, tune := range all {
			if tune != nil {
				tune(tr)
			}
		}
	}
}

// PeerStatus returns the status of a peer, which there must be.
func PeerStatus(t testing.TB, m *Member, id types.ID) rafthttp.PeerStatus {
	t.Helper()
	for _, p := range m.Status().Peers {
		if p.ID == id {
			return p
		}
	}
	require.FailNow(t, "no such peer")
	return rafthttp.PeerStatus{}
}
