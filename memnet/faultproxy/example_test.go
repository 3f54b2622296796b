package faultproxy_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/memnet/faultproxy"
)

// A client that reaches its server through a proxy, and sees a network that swallows everything.
func Example() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }))
	defer server.Close()
	p, err := faultproxy.Listen("127.0.0.1:0", server.Listener.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close()
	get := func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.Addr(), nil) // not the server's own address
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		return resp.Body.Close()
	}
	fmt.Println("whole:", get(context.Background()))

	p.ToClient().Pause() // requests get through, answers do not
	impatient, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	err = get(impatient)
	fmt.Println("paused, timed out:", errors.Is(err, context.DeadlineExceeded))

	p.ToClient().Resume()
	fmt.Println("whole again:", get(context.Background()))
	// Output:
	// whole: <nil>
	// paused, timed out: true
	// whole again: <nil>
}

// A stream of package rafthttp is dialled by the member that reads it. So a proxy before member 2 carries what the others
// hear of it; what it hears of them goes through proxies of theirs. Here 1 goes deaf to 2, and 2 notices nothing.
func Example_members() {
	one, two := newMember(1), newMember(2)
	defer one.stop()
	defer two.stop()
	p, err := faultproxy.Listen("127.0.0.1:0", two.ln.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close()
	one.AddPeer(2, []string{"http://" + p.Addr()})
	two.AddPeer(1, []string{"http://" + one.ln.Addr().String()}) // no proxy this way
	fmt.Println("1 hears 2:", <-one.hears)
	fmt.Println("2 hears 1:", <-two.hears)

	p.ToTarget().Pause()
	p.ToClient().Pause()
	fmt.Println("1 hears 2:", <-one.hears) // once it was silent for ReadTimeout

	p.ToTarget().Resume()
	p.ToClient().Resume()
	fmt.Println("1 hears 2:", <-one.hears)
	fmt.Println("news of 1:", len(two.hears))
	// Output:
	// 1 hears 2: true
	// 2 hears 1: true
	// 1 hears 2: false
	// 1 hears 2: true
	// news of 1: 0
}

// member is a transport that serves on loopback, and a Raft that does nothing.
type member struct {
	*rafthttp.Transport
	ln    net.Listener
	web   *http.Server
	hears chan bool // whether it hears the other
}

func newMember(id types.ID) *member {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	m := &member{ln: ln, hears: make(chan bool, 10)}
	m.Transport = &rafthttp.Transport{
		ID: id, ClusterID: 0x1000, Raft: m, ReadTimeout: 3 * time.Second,
		Observer: &rafthttp.Observer{PeerState: func(_ types.ID, active bool, _ error) { m.hears <- active }},
	}
	if err := m.Start(); err != nil {
		log.Fatal(err)
	}
	m.web = rafthttp.NewServer(m.Handler())
	go func() { _ = m.web.Serve(ln) }()
	return m
}

func (m *member) stop() {
	m.Stop()
	m.web.Close()
}

func (m *member) Process(context.Context, *raftpb.Message) error { return nil }
func (m *member) IsIDRemoved(uint64) bool                        { return false }
func (m *member) ReportUnreachable(uint64)                       {}
func (m *member) ReportSnapshot(uint64, raft.SnapshotStatus)     {}
