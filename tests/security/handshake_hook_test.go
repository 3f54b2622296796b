package security_test

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
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/internal/testtls"
)

// TestSlowHandshakeFailure: HandshakeFailure, and the log, which stand still hold up no other handshake, whose number is bounded,
// and what waits for them is bounded as well.
func TestSlowHandshakeFailure(t *testing.T) {
	for name, stand := range map[string]func(info *transport.TLSInfo, at *testmember.Barrier){
		"HandshakeFailure": func(info *transport.TLSInfo, at *testmember.Barrier) {
			info.HandshakeFailure = func(*tls.Conn, error) { at.Pass() }
		},
		"Logger": func(info *transport.TLSInfo, at *testmember.Barrier) {
			info.Logger = zap.New(testmember.BlockingCore{LevelEnabler: zap.InfoLevel, At: at})
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				ca := testtls.NewAuthority(t) // of the bubble's time
				info, at := ca.Member(t, 1), testmember.NewBarrier()
				good := clientOf(t, ca, "good", &x509.Certificate{})
				good.InsecureSkipVerify = true
				stand(&info, at)
				at.Close()
				n := testmember.NewNetwork()
				ln := tlsListener(t, n, info, nil)
				greets(t, ln)
				t.Cleanup(sync.OnceFunc(at.Open))
				for i := range 300 {
					// Each from another address: each is a line of the log of its own.
					c, err := n.Host(fmt.Sprint("b", i)).DialContext(t.Context(), "tcp", "server:443")
					require.NoError(t, err)
					_, _ = io.Copy(io.Discard, tls.Client(c, &tls.Config{InsecureSkipVerify: true}))
					c.Close()
				}
				synctest.Wait()
				require.NotEmpty(t, at.Entered)
				require.Len(t, at.Entered, 1, "one after another")
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
		ca := testtls.NewAuthority(t)
		info := ca.Member(t, 1)
		var from []string
		info.HandshakeFailure = func(c *tls.Conn, err error) {
			require.Error(t, err)
			time.Sleep(time.Second)
			from = append(from, c.RemoteAddr().String())
		}
		n := testmember.NewNetwork()
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
