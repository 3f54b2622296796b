package delivery_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// overHTTP serves the handler of member 1 by a version of HTTP, as behind a proxy that speaks it, and returns how to send a request.
func overHTTP(t *testing.T, n *memnet.Network, m *testmember.Member, major int) func(method, path string, body io.Reader, length int64) (*http.Response, error) {
	t.Helper()
	ln, err := n.Host("m1").Listen("9090")
	require.NoError(t, err)
	version := new(http.Protocols)
	version.SetHTTP1(major == 1)
	version.SetUnencryptedHTTP2(major == 2)
	h := m.Handler()
	hidden := func(w http.ResponseWriter, r *http.Request) { // no connection is handed over
		h.ServeHTTP(testmember.NewDeadlineWriter(w), r)
	}
	s := &http.Server{Protocols: version, Handler: http.HandlerFunc(hidden), ReadHeaderTimeout: time.Minute}
	served := make(chan struct{})
	go func() { defer close(served); _ = s.Serve(ln) }()
	client := &http.Transport{Protocols: version, DialContext: n.Host("m2").DialContext}
	t.Cleanup(func() {
		client.CloseIdleConnections()
		s.Close()
		<-served
	})
	return func(method, path string, body io.Reader, length int64) (*http.Response, error) {
		r, err := http.NewRequestWithContext(t.Context(), method, "http://m1:9090"+path, body)
		require.NoError(t, err)
		r.Header, r.ContentLength = testmember.PeerHeader(nil), length
		resp, err := client.RoundTrip(r)
		if err == nil {
			require.Equal(t, major, resp.ProtoMajor)
		}
		return resp, err
	}
}

// TestIdleStreamOverHTTP: a stream that brings nothing but link heartbeats goes on, however the timeouts are to each other.
func TestIdleStreamOverHTTP(t *testing.T) {
	for name, tune := range map[string]func(*rafthttp.Transport){
		"defaults":            func(*rafthttp.Transport) {},
		"long read timeout":   func(tr *rafthttp.Transport) { tr.ReadTimeout = 20 * time.Second },
		"short write timeout": func(tr *rafthttp.Transport) { tr.WriteTimeout = time.Second },
	} {
		for _, major := range []int{1, 2} {
			t.Run(name, func(t *testing.T) {
				testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
					a := testmember.StartSimulated(t, n, 1, tune)
					a.AddPeer(2, testmember.SilentHost(n, 2))
					resp, err := overHTTP(t, n, a, major)(http.MethodGet, "/raft/stream/message/2", nil, 0)
					require.NoError(t, err)
					require.Equal(t, http.StatusOK, resp.StatusCode)
					ended := make(chan error, 1)
					go func() {
						_, err := io.Copy(io.Discard, resp.Body)
						ended <- err
					}()
					select {
					case err := <-ended:
						require.NoError(t, err, "it ended")
					case <-time.After(time.Minute):
						resp.Body.Close()
						require.Error(t, <-ended)
					}
				})
			})
		}
	}
}

// TestSnapshotterRests: a Snapshotter may rest between two Reads for longer than any timeout; the sender was ready all the time.
func TestSnapshotterRests(t *testing.T) {
	rests := testmember.Saver(func(r io.Reader, _ uint64) (int64, error) {
		a, err := io.CopyN(io.Discard, r, 1<<20)
		if err != nil {
			return a, err
		}
		time.Sleep(testmember.ReadTimeout + time.Second)
		b, err := io.Copy(io.Discard, struct{ io.Reader }{r})
		return a + b, err
	})
	for _, major := range []int{1, 2} {
		testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
			a := testmember.StartSimulated(t, n, 1, testmember.Receives(rests))
			a.AddPeer(2, testmember.SilentHost(n, 2))
			m := testmember.Marshal(t, testmember.MsgSnap(1, 2, 7))
			body := append(append(testmember.LengthPrefixBytes(uint64(len(m))), m...), make([]byte, 4<<20)...)
			resp, err := overHTTP(t, n, a, major)(http.MethodPost, "/raft/snapshot", bytes.NewReader(body), int64(len(body)))
			require.NoError(t, err)
			text, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.Equal(t, http.StatusNoContent, resp.StatusCode, "%s", text)
		})
	}
}

// TestStopOverHTTP: Stop ends a request whose body stands still, and one whose sender is slow is not ended before.
func TestStopOverHTTP(t *testing.T) {
	for _, path := range []string{"/raft", "/raft/snapshot"} {
		for _, major := range []int{1, 2} {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				a := testmember.StartSimulated(t, n, 1, testmember.Receives(testmember.SavesAll))
				send := overHTTP(t, n, a, major)
				body := testmember.Marshal(t, testmember.MsgApp(1, 2, 1, make([]byte, 1000)))
				if path == "/raft/snapshot" {
					m := testmember.Marshal(t, testmember.MsgSnap(1, 2, 7))
					body = append(append(testmember.LengthPrefixBytes(uint64(len(m))), m...), make([]byte, 1000)...)
				}
				ctx, cancel := context.WithCancel(t.Context())
				answered := make(chan int, 1)
				go func() {
					resp, err := send(http.MethodPost, path, slowBody{ctx, bytes.NewReader(body)}, int64(len(body)))
					if err != nil {
						answered <- 0
						return
					}
					resp.Body.Close()
					answered <- resp.StatusCode
				}()
				time.Sleep(8 * time.Second)
				require.Empty(t, answered, "it was ended though it moves")
				began := time.Now()
				a.Stop()
				require.LessOrEqual(t, time.Since(began), time.Second)
				cancel()
				<-answered
			})
		}
	}
}

// slowBody brings a byte a second until ctx ends.
type slowBody struct {
	ctx  context.Context
	rest io.Reader
}

func (b slowBody) Read(p []byte) (int, error) {
	select {
	case <-b.ctx.Done():
		return 0, io.ErrUnexpectedEOF
	case <-time.After(time.Second):
		return b.rest.Read(p[:1])
	}
}
