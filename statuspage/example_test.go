package statuspage_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

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

func ExampleOptions() {
	t := &rafthttp.Transport{ID: 1, ClusterID: clusterID, Raft: raftFunc(nil)}
	h := statuspage.Handler(t, &statuspage.Options{
		Title: "orders",
		Facts: func(context.Context) []statuspage.Fact { // raft.Node.Status knows more
			return []statuspage.Fact{{Name: "Leader", Value: "2"}, {Name: "Applied index", Value: "4711"}}
		},
	})
	answer := httptest.NewRecorder()
	h.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/debug/rafthttp", nil))
	fmt.Println(strings.TrimSpace(answer.Body.String()))
	// Output:
	// The transport is not started.
	//
	// Leader         2
	// Applied index  4711
}
