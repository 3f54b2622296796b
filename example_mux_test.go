package rafthttp_test

import (
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"

	"go.etcd.io/etcd/client/pkg/v3/types"

	"github.com/seed-4d73690b/rafthttp"
)

// One process is a member of three raft groups, and has one peer port. Each group has a ClusterID and a Transport.
func ExampleMux() {
	var mux rafthttp.Mux
	web := httptest.NewUnstartedServer(&mux) // in a server: rafthttp.NewServer(&mux)
	web.Start()
	defer web.Close()

	for group := types.ID(1); group <= 3; group++ {
		t := &rafthttp.Transport{
			ID: 1, ClusterID: clusterID + group, Raft: quietRaft{}, // the Raft of this group
			URLs: types.MustNewURLs([]string{web.URL}), // the same for all
		}
		if err := t.Start(); err != nil {
			log.Fatal(err)
		}
		defer t.Stop()
		if err := mux.Add(t); err != nil { // another group has this ClusterID
			log.Fatal(err)
		}
	}

	for _, cluster := range []types.ID{clusterID + 2, clusterID + 9} {
		req, _ := http.NewRequest("GET", web.URL+"/raft/stream/message/2", http.NoBody)
		req.Header.Set("X-Etcd-Cluster-ID", cluster.String())
		req.Header.Set("X-Server-Version", "3.7.0")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			log.Fatal(err)
		}
		resp.Body.Close()
		fmt.Println(resp.StatusCode)
	}
	// Output:
	// 404
	// 412
}
