package statuspage_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/statuspage"
)

// clusterID was drawn at random when the cluster was founded; a real server keeps it with its data.
const clusterID = 0x4c1d80f7a2936be5

func ExampleHandler() {
	t := &rafthttp.Transport{ID: 1, ClusterID: clusterID, Raft: raftFunc(nil)}
	if err := t.Start(); err != nil {
		fmt.Println(err)
		return
	}
	defer t.Stop()

	operators := http.NewServeMux() // served where only they can reach it
	operators.Handle("/debug/rafthttp", statuspage.Handler(t, nil))

	answer := httptest.NewRecorder()
	operators.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/debug/rafthttp", nil))
	fmt.Println(answer.Code, answer.Header().Get("Content-Type"))
	// Output: 200 text/plain; charset=utf-8
}
