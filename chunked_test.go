package rafthttp_test

import (
	"bytes"
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/memnet"
)

// TestSlowChunkedBody: a body of unknown length lives as long as it moves, though net/http goes on to read chunks for as long
// as there is room for them: a line of 30 KiB/s. Members of etcd send snapshots like that.
func TestSlowChunkedBody(t *testing.T) {
	data := randomBytes(1 << 20)
	simulateBoth(t, func(t *testing.T, n *memnet.Network) {
		store := openIn(t, t.TempDir())
		b := startSimulated(t, n, 1, receives(plain{store}))
		n.Link("m2", "m1").SetBandwidth(30 << 10)
		tr := &http.Transport{DialContext: n.Host("m2").DialContext}
		defer tr.CloseIdleConnections()
		body := io.MultiReader(snapshotBody(t, msgSnap(1, 2, 7), ""), bytes.NewReader(data))
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.url+"/raft/snapshot", body)
		require.NoError(t, err)
		req.Header = peerHeader(nil)
		resp, err := tr.RoundTrip(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		require.Equal(t, http.StatusNoContent, resp.StatusCode)
		requireSaved(t, store, 7, data)
	})
}
