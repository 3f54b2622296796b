package rafthttp_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/seed-4d73690b/rafthttp"
)

// The handler shares a server with whatever else is served on the peer URL.
func ExampleTransport_Handler() {
	t := &rafthttp.Transport{ID: 1, ClusterID: clusterID, Raft: &server{}}
	if err := t.Start(); err != nil {
		panic(err)
	}
	defer t.Stop()

	mux := http.NewServeMux()
	mux.Handle(rafthttp.RaftPrefix, t.Handler())
	mux.Handle(rafthttp.RaftPrefix+"/", t.Handler())
	mux.HandleFunc("/version", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "1.0.0") })
	web := httptest.NewServer(mux)
	defer web.Close()

	for _, path := range []string{"/version", rafthttp.ProbingPrefix, rafthttp.RaftPrefix} {
		resp, err := web.Client().Get(web.URL + path)
		if err != nil {
			panic(err)
		}
		resp.Body.Close()
		fmt.Println(path, resp.Status)
	}
	// Output:
	// /version 200 OK
	// /raft/probing 200 OK
	// /raft 405 Method Not Allowed
}
