package testmember

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// Pair is two members in a network of memory: A sends, B receives. It is made inside a bubble of testing/synctest.
type Pair struct {
	Net  *memnet.Network
	A, B *Member
	Sent chan error // what a's observer is told of the ends of its snapshots

	Deadlines bool // members listen as NewListener does
}

// Start runs a member on a host of the network.
func (p *Pair) Start(t *testing.T, host string, id types.ID, tune func(*rafthttp.Transport)) *Member {
	t.Helper()
	ln, err := p.Net.Host(host).Listen("80")
	require.NoError(t, err)
	if p.Deadlines {
		ln = NewDeadlineListener(ln, rafthttp.DefaultConnReadTimeout, rafthttp.DefaultConnWriteTimeout)
	}
	return StartOn(t, ln, id, func(tr *rafthttp.Transport) {
		tr.DialContext = p.Net.Host(host).DialContext
		if tune != nil {
			tune(tr)
		}
	})
}

// Script runs a host "evil" that writes the same to everyone who connects and asks, for as long as they take it, and then
// closes the connection, unless silent is set. It returns its URL and the number of requests for streams so far.
func (p *Pair) Script(t *testing.T, say func(w io.Writer) error, silent bool) (string, *atomic.Int32) {
	t.Helper()
	ln, err := p.Net.Host("evil").Listen("80")
	require.NoError(t, err)
	t.Cleanup(func() { ln.Close() })
	var requests atomic.Int32
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				r, err := http.ReadRequest(bufio.NewReader(c))
				if err != nil {
					return
				}
				if strings.Contains(r.URL.Path, "stream") {
					requests.Add(1)
				}
				if say(c) == nil && silent {
					_, _ = io.Copy(io.Discard, c)
				}
			}()
		}
	}()
	return "http://evil:80", &requests
}

// NewPair runs A (1) and B (2), peers of each other, on the hosts "a" and "b".
func NewPair(t *testing.T, tuneA, tuneB func(*rafthttp.Transport)) *Pair {
	t.Helper()
	p := &Pair{Net: NewNetwork(), Sent: make(chan error, 100)}
	p.A = p.Start(t, "a", 1, func(tr *rafthttp.Transport) {
		tr.Observer = &rafthttp.Observer{
			SnapshotSent: func(_ types.ID, _ uint64, _ int64, _ time.Duration, err error) { p.Sent <- err },
		}
		if tuneA != nil {
			tuneA(tr)
		}
	})
	p.B = p.Start(t, "b", 2, tuneB)
	p.A.AddPeer(2, []string{p.B.URL})
	p.B.AddPeer(1, []string{p.A.URL})
	return p
}
