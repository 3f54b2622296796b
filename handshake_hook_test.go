package rafthttp_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp/internal/bubble"
)

// TestSlowHandshakeFailure: HandshakeFailure, and the log, which stand still hold up no other handshake, whose number is bounded,
// and what waits for them is bounded as well.
func TestSlowHandshakeFailure(t *testing.T) {
	for name, stand := range map[string]func(info *transport.TLSInfo, at *barrier){
		"HandshakeFailure": func(info *transport.TLSInfo, at *barrier) {
			info.HandshakeFailure = func(*tls.Conn, error) { at.pass() }
		},
		"Logger": func(info *transport.TLSInfo, at *barrier) {
			info.Logger = zap.New(blockingCore{LevelEnabler: zap.InfoLevel, at: at})
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				ca := newAuthority(t) // of the bubble's time
				info, at := ca.member(t, 1), newBarrier()
				good := clientOf(t, ca, "good", &x509.Certificate{})
				good.InsecureSkipVerify = true
				stand(&info, at)
				at.close()
				n := newMemnet()
				ln := tlsListener(t, n, info, nil)
				greets(t, ln)
				t.Cleanup(sync.OnceFunc(at.open))
				for i := range 300 {
					// Each from another address: each is a line of the log of its own.
					c, err := n.Host(fmt.Sprint("b", i)).DialContext(t.Context(), "tcp", "server:443")
					require.NoError(t, err)
					_, _ = io.Copy(io.Discard, tls.Client(c, &tls.Config{InsecureSkipVerify: true}))
					c.Close()
				}
				synctest.Wait()
				require.NotEmpty(t, at.entered)
				require.Len(t, at.entered, 1, "one after another")
				began := time.Now()
				got, err := io.ReadAll(tls.Client(dialServer(t, n), good))
				require.NoError(t, err)
				require.Equal(t, "hi", string(got))
				require.Zero(t, time.Since(began))
			})
		})
	}
}

// TestHandshakeFailureIsTold: of each handshake, in order, and none after Close has returned.
func TestHandshakeFailureIsTold(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		ca := newAuthority(t)
		info := ca.member(t, 1)
		var from []string
		info.HandshakeFailure = func(c *tls.Conn, err error) {
			require.Error(t, err)
			time.Sleep(time.Second)
			from = append(from, c.RemoteAddr().String())
		}
		n := newMemnet()
		ln := tlsListener(t, n, info, nil)
		greets(t, ln)
		var want []string
		for range 40 {
			c := dialServer(t, n)
			want = append(want, c.LocalAddr().String())
			_, _ = io.Copy(io.Discard, tls.Client(c, &tls.Config{InsecureSkipVerify: true}))
			synctest.Wait() // the client is told before the hook is
		}
		require.NoError(t, ln.Close())
		require.Equal(t, want, from)
	})
}
