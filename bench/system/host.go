package system

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// transporter is what our Transport and etcd's have in common.
type transporter interface {
	Start() error
	Handler() http.Handler
	Send(m []*raftpb.Message)
	AddPeer(id types.ID, urls []string)
	Stop()
}

// callbacks is the Raft of both.
type callbacks interface {
	Process(ctx context.Context, m *raftpb.Message) error
	IsIDRemoved(id uint64) bool
	ReportUnreachable(id uint64)
	ReportSnapshot(id uint64, status raft.SnapshotStatus)
}

// make_ is one of the two: how to listen, and how to make a transport that is not started.
type make_ struct {
	listen func(url.URL, *transport.TLSInfo) (net.Listener, error)
	newFor func(h *host) (transporter, error)
	// sendSnapshot sends a MsgSnap with a database. The channel says whether it has arrived.
	sendSnapshot func(h *host, msg *raftpb.Message, database *os.File, size int64) <-chan bool
	// ready reports whether all streams between the member and its peers are up.
	ready func(h *host, peers int) bool
	// drops returns how many messages members of this process have dropped for want of room, or could not send.
	drops func(h *host) int64
}

// host is a transport with the http.Server around it.
type host struct {
	transporter
	id         uint64
	url        url.URL // to listen at, and then where it listens
	tls        transport.TLSInfo
	raft       callbacks
	dir        string // of databases; empty: none are received
	checksum   bool   // they are verified by one, where the system can
	queueBytes int64  // of each queue, where that can be set; 0: the default
	dropped    atomic.Int64
	// lost, unless nil, learns of messages that the transport dropped, where it tells.
	lost func(error)

	server  *http.Server
	served  sync.WaitGroup
	streams atomic.Int64 // requests for streams that a handler is in
}

var quiet = log.New(io.Discard, "", 0)

// start listens, starts the transport and serves.
func (h *host) start(kind make_) error {
	listener, err := kind.listen(h.url, &h.tls)
	if err != nil {
		return err
	}
	h.url.Host = listener.Addr().String()
	if h.transporter, err = kind.newFor(h); err == nil {
		err = h.Start()
	}
	if err != nil {
		listener.Close()
		return err
	}
	// As etcd serves its peers.
	h.server = &http.Server{Handler: h.counting(h.Handler()), ReadTimeout: 5 * time.Minute, ErrorLog: quiet}
	h.served.Go(func() { _ = h.server.Serve(listener) })
	return nil
}

// counting counts the requests for streams that are being served, where the handler stays with them.
func (h *host) counting(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/stream/") {
			h.streams.Add(1)
			defer h.streams.Add(-1)
		}
		handler.ServeHTTP(w, r)
	})
}

func (h *host) close() {
	h.Stop()
	h.server.Close()
	h.served.Wait()
}
