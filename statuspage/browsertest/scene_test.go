package browsertest

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"golang.org/x/time/rate"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/snap"
	"github.com/seed-4d73690b/rafthttp/statuspage"
)

// scene is a cluster in some state, with the status page of its first member.
type scene struct {
	members []*member
	url     string // of the page
	page    *httptest.Server
	index   atomic.Uint64 // of the last append that talk sent
}

type member struct {
	*rafthttp.Transport
	url    string
	server *http.Server

	mu      sync.Mutex
	process func(context.Context, *raftpb.Message) error // nil: none
}

func (m *member) Process(ctx context.Context, msg *raftpb.Message) error {
	m.mu.Lock()
	f := m.process
	m.mu.Unlock()
	if f == nil {
		return nil
	}
	return f(ctx, msg)
}

func (m *member) IsIDRemoved(uint64) bool                    { return false }
func (m *member) ReportUnreachable(uint64)                   {}
func (m *member) ReportSnapshot(uint64, raft.SnapshotStatus) {}

func (m *member) SaveDBFrom(r io.Reader, _ uint64) (int64, error) { return io.Copy(io.Discard, r) }

// newScene runs n members that know each other and talk a little.
func newScene(t *testing.T, n int, tune func(*rafthttp.Transport)) *scene {
	t.Helper()
	s := &scene{}
	for i := range n {
		s.members = append(s.members, startMember(t, types.ID(i+1), tune))
	}
	for _, m := range s.members {
		for _, other := range s.members {
			if m != other {
				m.AddPeer(other.ID, []string{other.url})
			}
		}
	}
	s.page = httptest.NewServer(statuspage.Handler(s.members[0].Transport, &statuspage.Options{Facts: s.facts}))
	t.Cleanup(s.page.Close)
	s.url = s.page.URL
	return s
}

// facts are those of a server with raft: the scene has none.
func (s *scene) facts(context.Context) []statuspage.Fact {
	index := fmt.Sprint(s.index.Load())
	return []statuspage.Fact{{Name: "Leader", Value: "1"}, {Name: "Term", Value: "1"}, {Name: "Last index", Value: index}, {Name: "Applied index", Value: index}}
}

func startMember(t *testing.T, id types.ID, tune func(*rafthttp.Transport)) *member {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	m := &member{url: "http://" + ln.Addr().String()}
	m.Transport = &rafthttp.Transport{ID: id, ClusterID: 0xcafe, Raft: m, Snapshotter: m, URLs: types.MustNewURLs([]string{m.url})}
	if tune != nil {
		tune(m.Transport)
	}
	require.NoError(t, m.Start())
	m.server = &http.Server{Handler: m.Handler()}
	go func() { _ = m.server.Serve(ln) }()
	t.Cleanup(func() {
		m.Stop()
		_ = m.server.Close()
	})
	return m
}

// talk has the first member lead for as long as the test runs.
func (s *scene) talk(t *testing.T, size int, every time.Duration) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	data := make([]byte, size)
	_, _ = rand.Read(data)
	leader := s.members[0]
	for _, m := range s.members[1:] {
		m.mu.Lock()
		m.process = func(_ context.Context, msg *raftpb.Message) error {
			m.Send([]*raftpb.Message{message(raftpb.MsgAppResp, 1, m.ID, msg.GetIndex(), nil)})
			return nil
		}
		m.mu.Unlock()
	}
	wg.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for index := uint64(1); ; index++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			s.index.Store(index)
			for _, m := range s.members[1:] {
				leader.Send([]*raftpb.Message{message(raftpb.MsgApp, m.ID, 1, index, data[:size>>(m.ID%5)]), message(raftpb.MsgHeartbeat, m.ID, 1, index, nil)})
			}
		}
	})
}

func message(typ raftpb.MessageType, to, from types.ID, index uint64, data []byte) *raftpb.Message {
	m := &raftpb.Message{Type: typ.Enum(), To: new(uint64(to)), From: new(uint64(from)), Term: new(uint64(1)), Index: &index}
	if data != nil {
		m.Entries = []*raftpb.Entry{{Term: new(uint64(1)), Index: new(index + 1), Data: data}}
	}
	return m
}

// sendSnapshot begins to send a database that does not end while the test runs.
func (s *scene) sendSnapshot(t *testing.T, from, to *member, size int64) {
	t.Helper()
	m := message(raftpb.MsgSnap, to.ID, from.ID, 0, nil)
	m.Snapshot = &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{Index: new(uint64(0x1e240)), Term: new(uint64(1))}}
	from.SendSnapshot(snap.NewMessage(m, io.NopCloser(io.LimitReader(rand.Reader, size)), size))
}

func (s *scene) waitActive(t *testing.T) {
	t.Helper()
	for _, m := range s.members {
		eventually(t, func() bool { return m.ActivePeers() == len(s.members)-1 })
	}
}

func eventually(t *testing.T, cond func() bool) {
	t.Helper()
	require.Eventually(t, cond, 30*time.Second, 5*time.Millisecond)
}

const slowSnapshots = rate.Limit(256 << 10)
