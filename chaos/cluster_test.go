package main

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp"
)

func TestUnwell(t *testing.T) {
	well := func() *status {
		s := &status{Leader: 1, Applied: 10}
		for id := uint64(1); id <= 3; id++ {
			s.Members = append(s.Members, statusMember{ID: id})
		}
		for range 2 {
			s.Transport.Peers = append(s.Transport.Peers, rafthttp.PeerStatus{Active: true, Lanes: []rafthttp.LaneStatus{{Name: "msgapp", Up: true}}})
		}
		return s
	}
	for name, c := range map[string]struct {
		spoil func(*status)
		want  string
	}{
		"well":             {func(*status) {}, ""},
		"no leader":        {func(s *status) { s.Leader = 0 }, "leader"},
		"another leader":   {func(s *status) { s.Leader = 2 }, "leader"},
		"behind":           {func(s *status) { s.Applied-- }, "applied"},
		"a member missing": {func(s *status) { s.Members = s.Members[1:] }, "members [2 3]"},
		"another member":   {func(s *status) { s.Members[2].ID = 9 }, "members [1 2 9]"},
		"a learner":        {func(s *status) { s.Members[1].Learner = true }, "2 is a learner"},
		"a peer missing":   {func(s *status) { s.Transport.Peers = s.Transport.Peers[1:] }, "1 peers"},
		"an inactive peer": {func(s *status) { s.Transport.Peers[1].Active = false }, "inactive"},
		"a stream down":    {func(s *status) { s.Transport.Peers[1].Lanes[0].Up = false }, "lane msgapp"},
		"a message":        {func(s *status) { s.Transport.Peers[1].Lanes[0].Queued = 1 }, ""},
		"one that waits": {func(s *status) {
			s.Transport.Peers[1].Lanes[0].Queued, s.Transport.Peers[1].Lanes[0].OldestAge = 1, time.Second
		}, "1 queued, for 1s"},
	} {
		t.Run(name, func(t *testing.T) {
			s := well()
			c.spoil(s)
			err := unwell(s, well(), []uint64{1, 2, 3})
			if c.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, c.want)
		})
	}
}

// TestSettleSaysWhatWasWrong: the question that the end of the wait cuts short does not hide what was wrong until then.
func TestSettleSaysWhatWasWrong(t *testing.T) {
	var asked atomic.Int64
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) > 1 {
			<-r.Context().Done()
			return
		}
		_, _ = io.WriteString(w, `{"ID": 7}`)
	}))
	defer web.Close()
	c := &cluster{sharded: true, client: newClient()}
	c.members = []*member{{c: c, client: web.URL}}
	require.ErrorContains(t, c.settle(t.Context(), 5*tendEvery), "node 7 has no groups")
	require.EqualValues(t, 2, asked.Load())
}

func TestValues(t *testing.T) {
	v := value("3.14", 100)
	name, ok := nameOf(v)
	require.True(t, ok)
	require.Equal(t, "3.14", name)
	for _, broken := range []string{"", v[1:], v[:len(v)-1], v + "x", strings.Replace(v, "100", "99", 1), "3.14"} {
		name, ok = nameOf(broken)
		require.False(t, ok && name == "3.14", broken)
	}
}

func TestMetric(t *testing.T) {
	page := []byte("# TYPE go_goroutines gauge\ngo_goroutines_total 7\ngo_goroutines 1.2e+02\n")
	n, err := metric(page, "go_goroutines")
	require.NoError(t, err)
	require.Equal(t, 120, n)
	_, err = metric(page, "none")
	require.Error(t, err)
}

func TestFootprint(t *testing.T) {
	require.True(t, footprint{10, 10}.within(footprint{10, 10}))
	require.False(t, footprint{11, 1}.within(footprint{10, 10}))
	require.False(t, footprint{1, 11}.within(footprint{10, 10}))
	require.Equal(t, footprint{3, 4}, footprint{3, 1}.most(footprint{2, 4}))
}

// At every step of a rotation, members that have noticed it and members that have not accept each other.
func TestAuthorityRotation(t *testing.T) {
	dir := t.TempDir()
	c, err := newCerts(dir, []string{"127.0.0.1", "127.0.0.2"})
	require.NoError(t, err)
	type files struct {
		leaf *x509.Certificate
		pool *x509.CertPool
	}
	load := func() files {
		pair, err := tls.LoadX509KeyPair(c.certFile(1), c.keyFile(1))
		require.NoError(t, err)
		bundle, err := os.ReadFile(c.caFile())
		require.NoError(t, err)
		pool := x509.NewCertPool()
		require.True(t, pool.AppendCertsFromPEM(bundle))
		return files{pair.Leaf, pool}
	}
	verify := func(leaf *x509.Certificate, pool *x509.CertPool) error {
		_, err := leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: "127.0.0.2", KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
		return err
	}
	states := []files{load()}
	require.NoError(t, c.rotateAuthority(func() { states = append(states, load()) }))
	require.Len(t, states, 4)
	for i := range states[1:] {
		require.NoError(t, verify(states[i].leaf, states[i+1].pool))
		require.NoError(t, verify(states[i+1].leaf, states[i].pool))
	}
	require.Error(t, verify(states[0].leaf, states[3].pool), "the old authority is gone")
	require.NoError(t, c.rotateLeaf(1))
	after := load()
	require.NotEqual(t, states[3].leaf.SerialNumber, after.leaf.SerialNumber)
	require.NoError(t, verify(after.leaf, states[3].pool))
	left, err := filepath.Glob(filepath.Join(dir, "*.new"))
	require.NoError(t, err)
	require.Empty(t, left)
}

// TestLivesAreDrawn: members are started with both loops of kv and with all values of other flags, a member with others
// each time, and in the same order again with the same seed.
func TestLivesAreDrawn(t *testing.T) {
	draw := func(seed uint64) (lives []life) {
		c := &cluster{seed: seed}
		for slot := range size {
			for restarts := range 5 {
				lives = append(lives, (&member{c: c, slot: slot, restarts: restarts}).draw())
			}
		}
		return lives
	}
	var all []string
	for _, l := range draw(1) {
		all = append(append(all, l.flags...), l.env...)
	}
	for _, want := range []string{
		asyncFlag, plainFlag, "-compact-entries=50", "-compact-entries=1000", "-keep-entries=1", "-keep-entries=200",
		"-tls-recheck=500ms", "-tls-recheck=2s", "-log-level=info", "-log-level=debug", "GOMAXPROCS=1",
	} {
		require.Contains(t, all, want)
	}
	require.NotEqual(t, draw(1)[0], draw(1)[1], "two starts of one member")
	require.Equal(t, draw(1), draw(1))
	require.NotEqual(t, draw(1), draw(2))
}

// TestCertificatesInPieces: a file may be there in part for some time, and is whole in the end; some are replaced at once.
func TestCertificatesInPieces(t *testing.T) {
	c, err := newCerts(t.TempDir(), []string{"127.0.0.1"})
	require.NoError(t, err)
	before := time.Now()
	time.Sleep(time.Millisecond)
	require.False(t, c.wroteSince(before))
	parts, files := 0, 0
	c.pieces = rand.New(rand.NewPCG(1, 1))
	c.pause = func(time.Duration) {
		require.True(t, c.wroteSince(time.Now().Add(time.Hour)), "it is being written")
		for _, path := range []string{c.caFile(), c.certFile(0), c.keyFile(0)} {
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			if !strings.HasSuffix(string(text), "-----\n") {
				parts++
			}
		}
	}
	for range 20 {
		files += 3
		require.NoError(t, c.trust(c.current))
		require.NoError(t, c.rotateLeaf(0))
		_, err := tls.LoadX509KeyPair(c.certFile(0), c.keyFile(0))
		require.NoError(t, err)
		bundle, err := os.ReadFile(c.caFile())
		require.NoError(t, err)
		require.Equal(t, c.current.PEM, bundle)
	}
	require.Greater(t, parts, files/4)
	require.Less(t, parts, 3*files)
	require.True(t, c.wroteSince(before))
	require.False(t, c.wroteSince(time.Now().Add(time.Hour)))
}

func TestRefusalOfCertificates(t *testing.T) {
	require.True(t, refusesCertificates([]byte("kv: listen for peers on https://127.0.0.1:1: rafthttp: listen on https://127.0.0.1:1: ca.pem: line 3: a block that is not whole\n")))
	require.True(t, refusesCertificates([]byte("kv: rafthttp: Transport.TLSInfo is …: want readable files: …")))
	require.False(t, refusesCertificates([]byte("kv: open log: no space left on device")))
}
