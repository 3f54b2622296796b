package delivery_test

import (
	"io"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// noDeadline is a response whose wrapper has deadlines, and says of each that it has none, as os.File does.
type noDeadline struct{ testmember.BasicWriter }

func (noDeadline) SetReadDeadline(time.Time) error { return os.ErrNoDeadline }

// TestStuckBodyBehindAWrapper: a request whose body stands still is given up in time, and by Stop, also where a wrapper of the
// response hides what sets deadlines for reading.
func TestStuckBodyBehindAWrapper(t *testing.T) {
	hidden := func(w http.ResponseWriter) http.ResponseWriter { return testmember.BasicWriter{W: w} }
	none := func(w http.ResponseWriter) http.ResponseWriter { return noDeadline{testmember.BasicWriter{W: w}} }
	for _, path := range []string{"/raft", "/raft/snapshot"} {
		for end, wrap := range map[string]func(http.ResponseWriter) http.ResponseWriter{"in time": hidden, "Stop": hidden, "in time, no deadlines": none, "Stop, no deadlines": none} {
			t.Run(path[1:]+", "+end, func(t *testing.T) {
				testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
					a := testmember.StartSimulated(t, n, 1, testmember.Receives(testmember.SavesAll))
					var running atomic.Int32
					h := a.Server.Handler
					a.Server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						running.Add(1)
						defer running.Add(-1)
						h.ServeHTTP(wrap(w), r)
					})
					c, err := n.Host("m2").DialContext(t.Context(), "tcp", "m1:2380")
					require.NoError(t, err)
					defer c.Close()
					_, err = io.WriteString(c, testmember.RequestHead(http.MethodPost, path, testmember.PeerHeader(nil), 1000)+"abc")
					require.NoError(t, err)
					testmember.Within(t, time.Second, func() bool { return running.Load() == 1 })
					if strings.HasPrefix(end, "Stop") {
						began := time.Now()
						stopped := make(chan struct{})
						go func() { defer close(stopped); a.Stop() }()
						select {
						case <-stopped:
						case <-time.After(time.Minute):
							c.Close()
							require.Fail(t, "it does not return")
						}
						require.LessOrEqual(t, time.Since(began), time.Second)
						return
					}
					time.Sleep(3 * testmember.ReadTimeout)
					left := running.Load()
					c.Close()
					require.Zero(t, left)
				})
			})
		}
	}
}
