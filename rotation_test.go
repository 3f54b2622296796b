package rafthttp_test

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

const recheck = 10 * time.Second // the default

// secured are members in a network of memory that speak TLS, each with files of
// its own that change while it runs.
type secured struct {
	t   *testing.T
	net *memnet.Network
	dir string
}

func (s *secured) file(id types.ID, name string) string {
	return filepath.Join(s.dir, id.String()+"-"+name)
}

// write replaces a file of a member, as a careful tool does.
func (s *secured) write(id types.ID, name string, content []byte) {
	s.t.Helper()
	require.NoError(s.t, os.WriteFile(s.file(id, "new"), content, 0o600))
	require.NoError(s.t, os.Rename(s.file(id, "new"), s.file(id, name)))
}

// issue gives a member a certificate of an authority, and returns it.
func (s *secured) issue(a *authority, id types.ID, life time.Duration) *x509.Certificate {
	s.t.Helper()
	cert, _ := a.signFor(s.t, id.String(), &x509.Certificate{
		DNSNames:    []string{hostOf(id)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, life)
	for _, name := range []string{"pem", "key"} {
		content, err := os.ReadFile(a.file(id.String() + "." + name))
		require.NoError(s.t, err)
		s.write(id, name, content)
	}
	return cert
}

// trust has a member trust these authorities.
func (s *secured) trust(id types.ID, authorities ...*authority) {
	s.t.Helper()
	var bundle []byte
	for _, a := range authorities {
		content, err := os.ReadFile(a.file("ca.pem"))
		require.NoError(s.t, err)
		bundle = append(bundle, content...)
	}
	s.write(id, "ca", bundle)
}

// revoke gives a member a list of what an authority revoked.
func (s *secured) revoke(id types.ID, a *authority, certs ...*x509.Certificate) {
	s.t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour)}
	for _, c := range certs {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: time.Now()})
	}
	issuer := *a.cert
	issuer.KeyUsage, issuer.SubjectKeyId = x509.KeyUsageCRLSign, []byte{1}
	der, err := x509.CreateRevocationList(rand.Reader, list, &issuer, a.key)
	require.NoError(s.t, err)
	s.write(id, "crl", der)
}

// info is what a member with all its files uses.
func (s *secured) info(id types.ID) transport.TLSInfo {
	return transport.TLSInfo{
		CertFile: s.file(id, "pem"), KeyFile: s.file(id, "key"), TrustedCAFile: s.file(id, "ca"), CRLFile: s.file(id, "crl"),
		ClientCertAuth: true, SkipClientSANVerify: true, // a network of memory has no addresses
	}
}

// start runs a member.
func (s *secured) start(id types.ID, tune func(*rafthttp.Transport)) *member {
	s.t.Helper()
	ln, err := s.net.Host(hostOf(id)).Listen("2380")
	require.NoError(s.t, err)
	info := s.info(id)
	ln, err = rafthttp.NewTLSListener(rafthttp.WithDeadlines(ln, readTimeout, writeTimeout), &info)
	require.NoError(s.t, err)
	return startMemberAt(s.t, ln, "https://"+hostOf(id)+":2380", id, tuned(func(tr *rafthttp.Transport) {
		tr.TLSInfo, tr.DialContext = info, s.net.Host(hostOf(id)).DialContext
		tr.ReadTimeout = time.Minute // few probes: each is a handshake
	}, tune))
}

// startAll runs three members that are all connected, in a bubble.
func startAll(t *testing.T, ca *authority, tune func(*rafthttp.Transport)) (*secured, []*member, []*x509.Certificate) {
	t.Helper()
	s := &secured{t, memnet.New(), ca.dir}
	var all []*member
	var certs []*x509.Certificate
	for id := range types.ID(3) {
		certs = append(certs, s.issue(ca, id+1, time.Hour))
		s.trust(id+1, ca)
		s.revoke(id+1, ca)
		all = append(all, s.start(id+1, tune))
	}
	for _, m := range all {
		for _, other := range all {
			m.AddPeer(other.ID, []string{other.url})
		}
	}
	time.Sleep(time.Second)
	for _, m := range all {
		require.Equal(t, 2, m.ActivePeers())
	}
	return s, all, certs
}

// load has every member send to every other one until stop is called, which
// returns how many messages each got from each.
func load(t *testing.T, all []*member) (stop func() uint64) {
	t.Helper()
	done, ended := make(chan struct{}), make(chan uint64)
	go func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for n := uint64(0); ; n++ {
			for _, from := range all {
				for _, to := range all {
					if from != to {
						from.Send([]*raftpb.Message{msgApp(to.ID, from.ID, n, make([]byte, 1000)), heartbeat(to.ID, from.ID, n)})
					}
				}
			}
			select {
			case <-tick.C:
			case <-done:
				ended <- n + 1
				return
			}
		}
	}()
	return func() uint64 {
		close(done)
		return <-ended
	}
}

// TestRotation moves a cluster under load from one authority to another, old, both,
// new, without a restart: no message is lost, none is out of order, and nothing is
// left of the old certificates.
func TestRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		before, after := newAuthority(t), newAuthority(t)
		s, all, _ := startAll(t, before, nil)
		started := time.Now()
		stop := load(t, all)
		each := func(change func(id types.ID)) {
			for _, m := range all {
				change(m.ID)
				time.Sleep(recheck / 3) // at no time do all have the same
			}
			time.Sleep(2 * recheck)
		}
		each(func(id types.ID) { s.trust(id, before, after) })
		middle := time.Now()
		each(func(id types.ID) { s.issue(after, id, time.Hour); s.revoke(id, after) })
		renewed := time.Now()
		each(func(id types.ID) { s.trust(id, after) })
		time.Sleep(2 * recheck)
		n := stop()
		time.Sleep(time.Second)

		for _, m := range all {
			next := map[string]uint64{}
			for _, got := range m.raft.received() {
				key := fmt.Sprint(got.GetFrom(), got.GetType())
				require.Equal(t, next[key], got.GetCommit(), "member %s: %s", m.ID, key)
				next[key]++
			}
			require.Len(t, next, 4)
			for key, got := range next {
				require.Equal(t, n, got, "member %s: %s", m.ID, key)
			}
			require.Zero(t, m.Status().Refused)
			for _, p := range m.Status().Peers {
				require.Zero(t, p.SendFailures+p.ReceiveFailures+p.Disconnects)
				require.Less(t, p.LastErrorAt, started)
				for _, st := range p.Streams {
					require.Greater(t, st.Since, middle, "no connection is of the old certificates")
					require.Less(t, st.Since, renewed, "none of the new ones was cut")
					require.LessOrEqual(t, st.Connects, uint64(2))
				}
			}
		}
		// A member with an old certificate gets nowhere now.
		s.issue(before, 2, time.Hour)
		s.trust(2, before, after)
		old := s.info(2)
		require.Error(t, probe(t, s, old, all[0].url))
	})
}

// probe asks a server for the time, as member 2 and with these files.
func probe(t *testing.T, s *secured, info transport.TLSInfo, url string) error {
	t.Helper()
	cfg, err := info.ClientConfig()
	require.NoError(t, err)
	tr := &http.Transport{TLSClientConfig: cfg, DialContext: s.net.Host(hostOf(2)).DialContext, DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: tr}).Get(url + rafthttp.ProbingPrefix)
	if err == nil {
		resp.Body.Close()
	}
	return err
}

// TestRevocationOfALivePeer: it is cut within TLSRecheck, in both directions, and
// the others go on as if nothing had happened.
func TestRevocationOfALivePeer(t *testing.T) {
	revocations := map[string]func(s *secured, ca *authority, certs []*x509.Certificate, verdict *atomic.Uint64){
		"by the list": func(s *secured, ca *authority, certs []*x509.Certificate, _ *atomic.Uint64) {
			s.revoke(1, ca, certs[1])
			s.revoke(3, ca, certs[1])
		},
		"by VerifyPeer": func(_ *secured, _ *authority, _ []*x509.Certificate, verdict *atomic.Uint64) { verdict.Store(2) },
	}
	for name, revoke := range revocations {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ca := newAuthority(t)
				var refused atomic.Uint64
				s, all, certs := startAll(t, ca, func(tr *rafthttp.Transport) {
					tr.VerifyPeer = func(id types.ID, _ *tls.ConnectionState) error {
						if uint64(id) == refused.Load() {
							return errors.New("not any more")
						}
						return nil
					}
				})
				since := all[0].ActiveSince(3)
				revoke(s, ca, certs, &refused)
				within(t, recheck, func() bool {
					return all[0].ActiveSince(2).IsZero() && all[2].ActiveSince(2).IsZero()
				})
				for _, lane := range []string{"message", "msgapp"} {
					require.False(t, laneOf(all[0], 2, lane).Up)
					require.False(t, laneOf(all[2], 2, lane).Up)
				}
				sent := len(all[0].raft.received())
				for range 60 {
					all[1].Send([]*raftpb.Message{heartbeat(1, 2, 1), message(raftpb.MsgSnap, 1)})
					all[0].Send([]*raftpb.Message{heartbeat(3, 1, 1)})
					time.Sleep(time.Second)
					require.Len(t, all[0].raft.received(), sent)
					require.Equal(t, 1, all[0].ActivePeers())
				}
				require.Equal(t, since, all[0].ActiveSince(3))
				require.Zero(t, all[0].raft.unreachables(3))
				require.NotZero(t, all[0].Status().Peers[0].Refused)
				require.Contains(t, all[0].Status().Peers[0].LastError, map[string]string{"by the list": "revoked", "by VerifyPeer": "not any more"}[name])
			})
		})
	}
}

// TestRevocationDuringASnapshot: a transfer to or from a member that is revoked
// ends within TLSRecheck.
func TestRevocationDuringASnapshot(t *testing.T) {
	for _, sender := range []types.ID{1, 2} {
		t.Run("sent by "+sender.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ca := newAuthority(t)
				s, all, certs := startAll(t, ca, receives(savesAll))
				receiver := 3 - sender
				trickle := &database{Reader: readerFunc(func(p []byte) (int, error) {
					time.Sleep(time.Second)
					return copy(p, "x"), nil
				})}
				m := newSnapshot(trickle, 10_000)
				m.To, m.From = new(uint64(receiver)), new(uint64(sender))
				all[sender-1].SendSnapshot(m)
				time.Sleep(time.Minute)
				require.Len(t, all[receiver-1].Status().Receiving, 1)
				s.revoke(1, ca, certs[1]) // member 1 does not accept 2 any more
				start := time.Now()
				require.False(t, <-m.CloseNotify())
				require.LessOrEqual(t, time.Since(start), recheck+readTimeout)
				time.Sleep(readTimeout)
				require.Empty(t, all[receiver-1].Status().Receiving)
				require.Empty(t, all[receiver-1].raft.received())
			})
		})
	}
}

// TestKeptConnectionOfARevokedMember: a connection for posts that is never idle
// is worth nothing after the revocation, though it was made before.
func TestKeptConnectionOfARevokedMember(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newAuthority(t)
		s, all, certs := startAll(t, ca, nil)
		info := s.info(2)
		cfg, err := info.ClientConfig()
		require.NoError(t, err)
		conns := 0
		tr := &http.Transport{TLSClientConfig: cfg, DialContext: s.net.Host(hostOf(2)).DialContext}
		defer tr.CloseIdleConnections()
		post := func() (code int) {
			body := marshal(t, heartbeat(1, 2, 1))
			req, err := http.NewRequestWithContext(t.Context(), "POST", all[0].url+"/raft", readerOf(body))
			require.NoError(t, err)
			req.Header = peerHeader(nil)
			resp, err := tr.RoundTrip(req)
			if err != nil {
				return 0
			}
			defer resp.Body.Close()
			_, _ = io.Copy(io.Discard, resp.Body)
			return resp.StatusCode
		}
		for range 30 {
			time.Sleep(time.Second)
			require.Equal(t, 204, post())
		}
		conns = len(all[0].raft.received())
		s.revoke(1, ca, certs[1])
		var code int
		for start := time.Now(); time.Since(start) < recheck+time.Second; time.Sleep(time.Second) {
			if code = post(); code != 204 {
				break
			}
			conns++
		}
		require.Equal(t, 401, code)
		require.Len(t, all[0].raft.received(), conns)
		time.Sleep(time.Second)
		require.Zero(t, post(), "nor is there another connection")
	})
}

func readerOf(b []byte) io.Reader {
	return io.MultiReader(readerFunc(func(p []byte) (int, error) {
		if len(b) == 0 {
			return 0, io.EOF
		}
		n := copy(p, b)
		b = b[n:]
		return n, nil
	}))
}

// TestCertificatesThatEnd: a member with another certificate in time keeps its
// streams without a loss, one without is cut when its certificate ends.
func TestCertificatesThatEnd(t *testing.T) {
	for _, renewed := range []bool{true, false} {
		t.Run(map[bool]string{true: "renewed", false: "not renewed"}[renewed], func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ca := newAuthority(t)
				s, all, _ := startAll(t, ca, nil)
				for id := range types.ID(3) {
					s.issue(ca, id+1, 3*time.Minute)
				}
				end := time.Now().Add(3 * time.Minute)
				time.Sleep(time.Minute)
				since := all[0].ActiveSince(2)
				if renewed {
					for id := range types.ID(3) {
						s.issue(ca, id+1, 5*time.Hour)
					}
				}
				time.Sleep(time.Until(end.Add(-time.Second)))
				require.Equal(t, 2, all[0].ActivePeers())
				time.Sleep(time.Second + 3*recheck)
				if renewed {
					require.Equal(t, since, all[0].ActiveSince(2))
					require.Less(t, all[0].Status().Peers[0].LastErrorAt, end.Add(-2*time.Minute))
				} else {
					require.Zero(t, all[0].ActivePeers())
				}
			})
		})
	}
}

// TestFilesThatCannotBeUsed: what is half written, or gone, changes nothing; a
// revocation list that cannot be read lets nobody new in.
func TestFilesThatCannotBeUsed(t *testing.T) {
	bad := map[string]func(s *secured, name string){
		"gone":  func(s *secured, name string) { require.NoError(s.t, os.Remove(s.file(1, name))) },
		"empty": func(s *secured, name string) { s.write(1, name, nil) },
		"half": func(s *secured, name string) {
			content, err := os.ReadFile(s.file(1, name))
			require.NoError(s.t, err)
			s.write(1, name, content[:len(content)/2])
		},
		"garbage": func(s *secured, name string) {
			s.write(1, name, []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
		},
	}
	for how, spoil := range bad {
		for _, name := range []string{"pem", "key", "ca", "crl"} {
			t.Run(name+" "+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					ca := newAuthority(t)
					s, all, _ := startAll(t, ca, nil)
					since := all[0].ActiveSince(2)
					spoil(s, name)
					time.Sleep(5 * recheck)
					require.Equal(t, since, all[0].ActiveSince(2), "streams go on")
					// Another connection, in both directions.
					all[0].UpdatePeer(2, []string{all[1].url})
					time.Sleep(5 * time.Second)
					up := all[0].ActivePeers() == 2
					require.Equal(t, name != "crl", up)
					if name == "crl" {
						require.Error(t, probe(t, s, s.info(2), all[0].url))
						s.revoke(1, ca)
						within(t, 10*time.Second, func() bool { return all[0].ActivePeers() == 2 })
					}
					require.NoError(t, probe(t, s, s.info(2), all[0].url))
				})
			})
		}
	}
}

// TestRoundTripperReadsAuthoritiesAgain as its handshakes need them.
func TestRoundTripperReadsAuthoritiesAgain(t *testing.T) {
	before, after := newAuthority(t), newAuthority(t)
	a := startAt(t, "https", 1, before.member(t, 1), nil)
	b := startAt(t, "https", 2, after.member(t, 2), nil)
	info := before.member(t, 3)
	info.TrustedCAFile = before.file("bundle")
	trust := func(of *authority) {
		content, err := os.ReadFile(of.file("ca.pem"))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(info.TrustedCAFile, content, 0o600))
	}
	trust(before)
	rt, err := rafthttp.NewRoundTripper(info, 0)
	require.NoError(t, err)
	c := &http.Client{Transport: rt}
	defer c.CloseIdleConnections()
	get := func(url string) error {
		resp, err := c.Get(url + rafthttp.ProbingPrefix)
		if err == nil {
			resp.Body.Close()
		}
		return err
	}
	require.NoError(t, get(a.url))
	require.ErrorContains(t, get(b.url), "unknown authority")
	trust(after)
	require.ErrorContains(t, get(b.url), "certificate", "b does not know us")
	require.NotContains(t, get(b.url).Error(), "x509", "but we know it")
}
