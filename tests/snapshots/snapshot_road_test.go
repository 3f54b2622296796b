package snapshots_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
)

// road is what lies between a sender and its receiver: a proxy that leads to one member
// or another, and closes a connection once, when a number of bytes have passed.
type road struct {
	net.Listener

	mu         sync.Mutex
	dial       func() (net.Conn, error) // to where it leads
	taken      int64                    // bytes from clients
	cutAt      int64                    // 0: never
	onCut      func()                   // before the connection is closed
	oneRequest bool                     // of each connection is passed on, and no second one
	conns      map[net.Conn]struct{}

	wg sync.WaitGroup
}

// newRoad serves until the end of the test.
func newRoad(t *testing.T, ln net.Listener) *road {
	t.Helper()
	r := &road{Listener: ln, conns: map[net.Conn]struct{}{}}
	r.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			r.wg.Go(func() { r.serve(c) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		r.mu.Lock()
		for c := range r.conns {
			c.Close()
		}
		r.mu.Unlock()
		r.wg.Wait()
	})
	return r
}

// lead has new connections go to where dial leads.
func (r *road) lead(dial func() (net.Conn, error), oneRequest bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dial, r.oneRequest = dial, oneRequest
}

func (r *road) serve(client net.Conn) {
	defer r.track(client)()
	r.mu.Lock()
	dial, oneRequest := r.dial, r.oneRequest
	r.mu.Unlock()
	target, err := dial()
	if err != nil {
		return
	}
	defer r.track(target)()
	if oneRequest {
		r.serveOne(client, target)
		return
	}
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(client, struct{ io.Reader }{target})
		client.Close()
	})
	r.forth(target, client)
	target.Close()
	back.Wait()
}

// track has the connection closed at the end of the test, and by what it returns.
func (r *road) track(c net.Conn) (done func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conns[c] = struct{}{}
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.conns, c)
		c.Close()
	}
}

// forth copies until the client has no more, or its connection is cut. The target gets
// what has passed.
func (r *road) forth(target, client net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := client.Read(buf)
		if _, werr := target.Write(buf[:n]); err != nil || werr != nil {
			return
		}
		r.mu.Lock()
		r.taken += int64(n)
		cut := r.cutAt > 0 && r.taken >= r.cutAt
		if cut {
			r.cutAt = 0
		}
		r.mu.Unlock()
		if cut {
			r.onCut()
			return
		}
	}
}

func (r *road) serveOne(client, target net.Conn) {
	req, err := http.ReadRequest(bufio.NewReader(client))
	if err != nil || req.Write(target) != nil {
		return
	}
	resp, err := http.ReadResponse(bufio.NewReader(target), req)
	if err != nil {
		return
	}
	defer resp.Body.Close()
	_ = resp.Write(client)
}
