package memnet_test

import (
	"fmt"
	"net/http"
	"time"

	"github.com/seed-4d73690b/rafthttp/memnet"
)

// A server and a client on two hosts. To let delays pass in no time, run the same in a bubble of testing/synctest.
func Example() {
	n := memnet.New()
	n.Link("client", "server").SetDelay(10 * time.Millisecond)

	ln, err := n.Host("server").Listen("80")
	if err != nil {
		panic(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "hello")
	})}
	go func() { _ = srv.Serve(ln) }()
	defer srv.Close()

	transport := &http.Transport{DialContext: n.Host("client").DialContext}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: time.Minute}

	resp, err := client.Get("http://server/")
	if err != nil {
		panic(err)
	}
	defer resp.Body.Close()
	fmt.Println(resp.Status)

	n.Partition([]string{"client"}, []string{"server"})
	client.Timeout = 100 * time.Millisecond
	_, err = client.Get("http://server/")
	fmt.Println("partitioned, failed:", err != nil)

	n.Heal()
	client.Timeout = time.Minute
	transport.CloseIdleConnections()
	again, err := client.Get("http://server/")
	if err != nil {
		panic(err)
	}
	defer again.Body.Close()
	fmt.Println(again.Status)
	// Output:
	// 200 OK
	// partitioned, failed: true
	// 200 OK
}
