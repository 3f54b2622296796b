package promise

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
)

// handler returns what a member serves: its transport, behind what its options say.
func (m *member) handler(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if m.opt.Stock && (strings.HasPrefix(r.URL.Path, rafthttp.RaftSnapshotPrefix+"/") || strings.HasPrefix(r.URL.Path, rafthttp.RaftPrefix+"/groups")) {
			http.NotFound(w, r)
			return
		}
		if offset := r.Header.Get("X-Raft-Snapshot-Offset"); offset != "" && offset != "0" {
			if strings.HasPrefix(r.URL.Path, rafthttp.RaftPrefix+"/groups") {
				m.s.count("groups: snapshots resumed")
			} else {
				m.s.count("snapshots resumed")
			}
		}
		h.ServeHTTP(wrapped(m.opt.Wrapper, w), r)
	})
}

// wrapped is the response that a middleware makes of another.
func wrapped(how string, w http.ResponseWriter) http.ResponseWriter {
	switch how {
	case "no hijack":
		return noHijack{w, w.(http.Flusher), http.NewResponseController(w)}
	case "no flush":
		return noFlush{w, w.(http.Hijacker), http.NewResponseController(w)}
	case "no deadlines":
		return noDeadlines{w, w.(http.Hijacker), w.(http.Flusher)}
	case "bare":
		return struct{ http.ResponseWriter }{w}
	}
	return w
}

type deadlines interface {
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
}

type (
	noHijack struct {
		http.ResponseWriter
		http.Flusher
		deadlines
	}
	noFlush struct {
		http.ResponseWriter
		http.Hijacker
		deadlines
	}
	noDeadlines struct {
		http.ResponseWriter
		http.Hijacker
		http.Flusher
	}
)

// extensions is the name of the header by which members say what stock members do not know. Whoever reads the other finds
// none.
var extensions, unknown = []byte("X-Raft-Extensions"), []byte("X-Unknown-To-Them")

// stockConn is a connection of a member that neither says nor hears of extensions.
type stockConn struct{ net.Conn }

// Read implements net.Conn.
func (c *stockConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if i := bytes.Index(p[:n], extensions); i >= 0 {
		copy(p[i:], unknown)
	}
	return n, err
}

// Write implements net.Conn.
func (c *stockConn) Write(p []byte) (int, error) {
	if i := bytes.Index(p, extensions); i >= 0 {
		p = bytes.Clone(p)
		copy(p[i:], unknown)
	}
	return c.Conn.Write(p)
}

// stranger is somebody who serves the address of a member, and is none.
type stranger struct {
	server *http.Server
	served chan struct{}
	ln     net.Listener
	conns  sync.WaitGroup
	began  time.Time

	mu      sync.Mutex
	streams map[[2]string]int // requests for streams, by sender and path
}

// wanted notes a request for a stream.
func (x *stranger) wanted(r *http.Request) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.streams[[2]string{r.Header.Get("X-Server-From"), r.URL.Path}]++
}

// most returns how many requests for a stream came from one member.
func (x *stranger) most() (n int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, m := range x.streams {
		n = max(n, m)
	}
	return n
}

// maxStreams is how many requests for one stream there may be in a time: ten a second at first, and less and less often.
func maxStreams(d time.Duration) int { return 12 + int(d.Seconds()) }

// startStranger has somebody serve the address of a member that does not run.
func (s *simulation) startStranger(id uint64, how string) (*stranger, error) {
	ln, err := s.net.Host(host(id)).Listen("80")
	if err != nil {
		return nil, err
	}
	x := &stranger{served: make(chan struct{}), ln: ln, began: time.Now(), streams: map[[2]string]int{}}
	if s.trust != nil {
		ln = s.trust.listener(ln, s.trust.info(id))
	}
	s.mu.Lock()
	s.strangers[x] = id
	s.mu.Unlock()
	if how == "silence" {
		go x.keepSilent(ln)
		return x, nil
	}
	x.server = &http.Server{Handler: s.strange(x, id, how), ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: time.Minute}
	go func() {
		defer close(x.served)
		_ = x.server.Serve(ln)
	}()
	return x, nil
}

// strange answers as somebody who is no member.
func (s *simulation) strange(x *stranger, id uint64, how string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.count("requests to strangers")
		if strings.HasPrefix(r.URL.Path, rafthttp.RaftStreamPrefix) {
			x.wanted(r)
		}
		if how != "another member" { // which reads it
			_, _ = io.CopyN(io.Discard, r.Body, 64<<10)
		}
		switch how {
		case "mute", "flickers":
			s.speak(w, r, how)
		case "another member": // whose address it is now
			for _, m := range s.running() {
				if m.id != id && m.id != 0 && r.Header.Get("X-Server-From") != fmt.Sprintf("%x", m.id) {
					m.Handler().ServeHTTP(w, r)
					return
				}
			}
			http.NotFound(w, r)
		case "200":
			_, _ = io.WriteString(w, "<html>welcome</html>")
		case "403":
			http.Error(w, "the member has been permanently removed from the cluster", http.StatusForbidden)
		case "410":
			http.Error(w, "the member has been permanently removed from the cluster", http.StatusGone)
		case "502":
			http.Error(w, "bad gateway", http.StatusBadGateway)
		default:
			http.NotFound(w, r)
		}
	})
}

// speak begins to answer as a member does, with headers that are right.
func (s *simulation) speak(w http.ResponseWriter, r *http.Request, how string) {
	for name, value := range map[string]string{
		"X-Server-Version": "3.7.0", "X-Min-Cluster-Version": "3.0.0", "X-Etcd-Cluster-ID": cluster.String(),
	} {
		w.Header().Set(name, value)
	}
	w.WriteHeader(http.StatusOK)
	_ = http.NewResponseController(w).Flush()
	switch {
	case how == "mute":
		_ = sleep(context.Background(), readTime) // and not a byte
	case strings.Contains(r.URL.Path, "/msgapp/"): // one link heartbeat
		_, _ = w.Write(make([]byte, 8))
	case strings.Contains(r.URL.Path, "/message/"):
		_, _ = w.Write([]byte{0, 0, 0, 0, 0, 0, 0, 2, 8, byte(raftpb.MsgHeartbeat)})
	}
}

// keepSilent takes connections and says nothing.
func (x *stranger) keepSilent(ln net.Listener) {
	defer close(x.served)
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		x.conns.Go(func() {
			defer c.Close()
			_, _ = io.Copy(io.Discard, c)
		})
	}
}

// dismiss ends a stranger.
func (s *simulation) dismiss(x *stranger) {
	s.mu.Lock()
	id := s.strangers[x]
	delete(s.strangers, x)
	s.mu.Unlock()
	s.net.Host(host(id)).Crash() // its connections too
	_ = x.ln.Close()
	if x.server != nil {
		_ = x.server.Close()
	}
	<-x.served
	x.conns.Wait()
}
