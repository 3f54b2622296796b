package security_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
)

// FuzzRequestHeaders gives the handlers any headers, of a member that is no peer.
func FuzzRequestHeaders(f *testing.F) {
	tr := &rafthttp.Transport{ID: 1, ClusterID: testmember.ClusterID, Raft: &testmember.Recorder{}}
	require.NoError(f, tr.Start())
	f.Cleanup(tr.Stop)
	h := tr.Handler()
	paths := []string{"/raft", "/raft/snapshot", messagePath, msgappPath, "/raft/stream/message/x", "/raft/stream/x/2"}
	f.Add("3.7.0", "3.0.0", "c1", "2", "1", "http://a:1", uint8(0))
	f.Add("", "", "", "", "", "", uint8(2))
	f.Add("3.7.0", "3.0.0", "c1", "2", "1", "http://a:1,,http://[", uint8(2))
	f.Add("3.7.0-\x00", "9.0.0", "C1", "-1", "zz", "unix://", uint8(3))
	f.Fuzz(func(t *testing.T, version, minimum, cluster, from, to, urls string, path uint8) {
		p := paths[int(path)%len(paths)]
		method := http.MethodGet
		if !strings.Contains(p, "stream") {
			method = http.MethodPost
		}
		r := httptest.NewRequest(method, p, strings.NewReader("\xff"))
		r.Header = http.Header{
			"X-Server-Version": {version}, "X-Min-Cluster-Version": {minimum}, "X-Etcd-Cluster-Id": {cluster},
			"X-Server-From": {from}, "X-Raft-To": {to}, "X-Peerurls": {urls},
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		require.Contains(t, []int{400, 404, 412, 501}, w.Code, w.Body)
		require.Equal(t, "c1", w.Header().Get("X-Etcd-Cluster-ID"))
		require.LessOrEqual(t, len(tr.Status().Remotes), 128)
	})
}
