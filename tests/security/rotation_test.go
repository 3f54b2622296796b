package security_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/internal/testtls"
)

// TestRotation moves a cluster under load from one authority to another, old, both,
// new, without a restart: no message is lost, none is out of order, and nothing is
// left of the old certificates.
func TestRotation(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		before, after := testtls.NewAuthority(t), testtls.NewAuthority(t)
		logs, lines := testmember.Logged(zap.NewAtomicLevelAt(zap.InfoLevel))
		s, all, _ := testtls.StartAll(t, before, logs)
		started := time.Now()
		stop := load(t, all, 20*time.Millisecond, 1000)
		each := func(change func(id types.ID)) {
			for _, m := range all {
				change(m.ID)
				time.Sleep(recheck / 3) // at no time do all have the same
			}
			time.Sleep(2 * recheck)
		}
		each(func(id types.ID) { s.Trust(id, before, after) })
		middle := time.Now()
		each(func(id types.ID) { s.Issue(after, id, time.Hour); s.Revoke(id, after) })
		renewed := time.Now()
		each(func(id types.ID) { s.Trust(id, after) })
		time.Sleep(2 * recheck)
		n := stop()
		time.Sleep(time.Second)

		for _, m := range all {
			next := map[string]uint64{}
			for _, got := range m.Recorder.Received() {
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
		require.Equal(t, 12, lines.FilterMessage("moved a stream to a connection with the peer's new certificate").Len())
		since := lines.Filter(func(e observer.LoggedEntry) bool { return e.Time.After(started) && e.Level > zap.InfoLevel })
		require.Empty(t, since.All(), "nobody has to look at what went well")
		// A member with an old certificate gets nowhere now.
		s.Issue(before, 2, time.Hour)
		s.Trust(2, before, after)
		old := s.Info(2)
		require.Error(t, probe(t, s, old, all[0].URL))
	})
}

// TestRevocationOfALivePeer: it is cut within TLSRecheck, in both directions, and
// the others go on as if nothing had happened.
func TestRevocationOfALivePeer(t *testing.T) {
	revocations := map[string]func(s *testtls.Network, ca *testtls.Authority, certs []*x509.Certificate, verdict *atomic.Uint64){
		"by the list": func(s *testtls.Network, ca *testtls.Authority, certs []*x509.Certificate, _ *atomic.Uint64) {
			s.Revoke(1, ca, certs[1])
			s.Revoke(3, ca, certs[1])
		},
		"by VerifyPeer": func(_ *testtls.Network, _ *testtls.Authority, _ []*x509.Certificate, verdict *atomic.Uint64) {
			verdict.Store(2)
		},
	}
	for name, revoke := range revocations {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				ca := testtls.NewAuthority(t)
				var refused atomic.Uint64
				s, all, certs := testtls.StartAll(t, ca, func(tr *rafthttp.Transport) {
					tr.VerifyPeer = func(id types.ID, _ *tls.ConnectionState) error {
						if uint64(id) == refused.Load() {
							return errors.New("not any more")
						}
						return nil
					}
				})
				since := all[0].ActiveSince(3)
				revoke(s, ca, certs, &refused)
				testmember.Within(t, recheck, func() bool {
					return all[0].ActiveSince(2).IsZero() && all[2].ActiveSince(2).IsZero()
				})
				for _, lane := range []string{"message", "msgapp"} {
					require.False(t, testmember.LaneOf(all[0], 2, lane).Up)
					require.False(t, testmember.LaneOf(all[2], 2, lane).Up)
				}
				sent := len(all[0].Recorder.Received())
				for range 25 {
					all[1].Send([]*raftpb.Message{testmember.Heartbeat(1, 2, 1), testmember.Message(raftpb.MsgSnap, 1)})
					all[0].Send([]*raftpb.Message{testmember.Heartbeat(3, 1, 1)})
					time.Sleep(time.Second)
					require.Len(t, all[0].Recorder.Received(), sent)
					require.Equal(t, 1, all[0].ActivePeers())
				}
				require.Equal(t, since, all[0].ActiveSince(3))
				require.Zero(t, all[0].Recorder.Unreachables(3))
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
			bubble.Test(t, func(t *testing.T) {
				ca := testtls.NewAuthority(t)
				s, all, certs := testtls.StartAll(t, ca, testmember.Receives(testmember.SavesAll))
				receiver := 3 - sender
				trickle := &testmember.Database{Reader: testmember.ReaderFunc(func(p []byte) (int, error) {
					time.Sleep(time.Second)
					return copy(p, "x"), nil
				})}
				m := testmember.NewSnapshot(trickle, 10_000)
				m.To, m.From = new(uint64(receiver)), new(uint64(sender))
				all[sender-1].SendSnapshot(m)
				time.Sleep(time.Minute)
				require.Len(t, all[receiver-1].Status().Receiving, 1)
				s.Revoke(1, ca, certs[1]) // member 1 does not accept 2 any more
				start := time.Now()
				require.False(t, <-m.CloseNotify())
				require.LessOrEqual(t, time.Since(start), recheck+testmember.ReadTimeout)
				time.Sleep(testmember.ReadTimeout)
				require.Empty(t, all[receiver-1].Status().Receiving)
				require.Empty(t, all[receiver-1].Recorder.Received())
			})
		})
	}
}

// TestCertificatesThatEnd: a member with another certificate in time keeps its
// streams without a loss, one without is cut when its certificate ends.
func TestCertificatesThatEnd(t *testing.T) {
	for _, renewed := range []bool{true, false} {
		t.Run(map[bool]string{true: "renewed", false: "not renewed"}[renewed], func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				ca := testtls.NewAuthority(t)
				s, all, _ := testtls.StartAll(t, ca, nil)
				for id := range types.ID(3) {
					s.Issue(ca, id+1, 3*time.Minute)
				}
				end := time.Now().Add(3 * time.Minute)
				time.Sleep(time.Minute)
				since := all[0].ActiveSince(2)
				if renewed {
					for id := range types.ID(3) {
						s.Issue(ca, id+1, 5*time.Hour)
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
	bad := map[string]func(s *testtls.Network, name string){
		"gone":  func(s *testtls.Network, name string) { require.NoError(s.T, os.Remove(s.File(1, name))) },
		"empty": func(s *testtls.Network, name string) { s.Write(1, name, nil) },
		"half": func(s *testtls.Network, name string) {
			content, err := os.ReadFile(s.File(1, name))
			require.NoError(s.T, err)
			s.Write(1, name, content[:len(content)/2])
		},
		"garbage": func(s *testtls.Network, name string) {
			s.Write(1, name, []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
		},
	}
	for how, spoil := range bad {
		for _, name := range []string{"pem", "key", "ca", "crl"} {
			t.Run(name+" "+how, func(t *testing.T) {
				bubble.Test(t, func(t *testing.T) {
					ca := testtls.NewAuthority(t)
					s, all, _ := testtls.StartAll(t, ca, nil)
					since := all[0].ActiveSince(2)
					spoil(s, name)
					time.Sleep(5 * recheck)
					require.Equal(t, since, all[0].ActiveSince(2), "streams go on")
					// Another connection, in both directions.
					all[0].UpdatePeer(2, []string{all[1].URL})
					time.Sleep(5 * time.Second)
					up := all[0].ActivePeers() == 2
					require.Equal(t, name != "crl", up)
					if name == "crl" {
						require.Error(t, probe(t, s, s.Info(2), all[0].URL))
						s.Revoke(1, ca)
						testmember.Within(t, 10*time.Second, func() bool { return all[0].ActivePeers() == 2 })
					}
					require.NoError(t, probe(t, s, s.Info(2), all[0].URL))
				})
			})
		}
	}
}

// TestRoundTripperReadsAuthoritiesAgain as its handshakes need them.
func TestRoundTripperReadsAuthoritiesAgain(t *testing.T) {
	before, after := testtls.NewAuthority(t), testtls.NewAuthority(t)
	a := testtls.Start(t, "https", 1, before.Member(t, 1), nil)
	b := testtls.Start(t, "https", 2, after.Member(t, 2), nil)
	info := before.Member(t, 3)
	info.TrustedCAFile = before.File("bundle")
	trust := func(of *testtls.Authority) {
		content, err := os.ReadFile(of.File("ca.pem"))
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
	require.NoError(t, get(a.URL))
	require.ErrorContains(t, get(b.URL), "unknown authority")
	trust(after)
	err = get(b.URL)
	require.Error(t, err, "b does not know us") // net/http does not always say why
	require.NotContains(t, err.Error(), "x509", "but we know it")
}
