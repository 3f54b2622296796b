//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
)

const (
	requestTime = 5 * time.Second
	maxValue    = 1 << 20
	passedOn    = "Passed-On" // header of a request that another node has passed on
)

// failure is an answer that is not the one that was asked for.
type failure struct {
	status            int
	Code, Error, ETag string
}

// view is what a node says of one of its replicas.
type view struct {
	Group, Replica, Leader, Term, Applied uint64
	Hash                                  string
	Voters, Removed                       []uint64
}

// about is what a node says of itself.
type about struct {
	ID        uint64
	Replicas  []view
	Transport rafthttp.Status
}

func (n *node) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /kv/{key}", n.key)
	mux.HandleFunc("PUT /kv/{key}", n.key)
	mux.HandleFunc("GET /groups", func(w http.ResponseWriter, _ *http.Request) {
		all := about{ID: n.cfg.id, Transport: n.transport.Status()}
		for _, r := range n.all() {
			all.Replicas = append(all.Replicas, r.view())
		}
		_ = json.NewEncoder(w).Encode(all)
	})
	mux.HandleFunc("POST /groups/{group}/{what}", func(w http.ResponseWriter, q *http.Request) {
		ctx, cancel := context.WithTimeout(q.Context(), requestTime)
		defer cancel()
		err := n.administer(ctx, q.PathValue("what"), parseID(q.PathValue("group")), parseID(q.URL.Query().Get("replica")))
		if err != nil {
			answer(w, failure{status: http.StatusConflict, Code: "failed", Error: err.Error()})
		}
	})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "go_goroutines %d\n", runtime.NumGoroutine())
	})
	return mux
}

// isMember reports whether the replica was added to the group, as far as it knows.
func (r *replica) isMember() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Contains(r.conf.GetVoters(), r.id)
}

func (r *replica) view() view {
	r.mu.Lock()
	defer r.mu.Unlock()
	st := r.raft.BasicStatus()
	return view{
		Group: r.group, Replica: r.id, Leader: st.Lead, Term: st.HardState.GetTerm(), Applied: r.state.Index,
		Hash: hex.EncodeToString(r.state.Hash[:]), Voters: r.conf.GetVoters(), Removed: r.state.Removed,
	}
}

// administer changes where the replicas of a group live.
func (n *node) administer(ctx context.Context, what string, group, replica uint64) error {
	if what == "join" {
		return n.join(group, replica)
	}
	r := n.replica(group)
	if r == nil {
		return errors.New("the node has no replica of the group")
	}
	switch what {
	case "add":
		return r.change(ctx, raftpb.ConfChangeAddNode, replica).err
	case "remove":
		return r.change(ctx, raftpb.ConfChangeRemoveNode, replica).err
	case "end": // of a replica that nobody tells that it was removed
		if r.id != replica {
			return errors.New("the node has another replica")
		}
		r.setRemoved()
		return nil
	default:
		return fmt.Errorf("cannot %s", what)
	}
}

func answer(w http.ResponseWriter, f failure) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(f.status)
	_ = json.NewEncoder(w).Encode(f)
}

// key reads or writes a key, here or at a node that has its group.
func (n *node) key(w http.ResponseWriter, q *http.Request) {
	ctx, cancel := context.WithTimeout(q.Context(), requestTime)
	defer cancel()
	body, err := io.ReadAll(http.MaxBytesReader(w, q.Body, maxValue))
	if err != nil {
		answer(w, failure{status: http.StatusBadRequest, Code: "bad_request", Error: err.Error()})
		return
	}
	key := q.PathValue("key")
	r := n.replica(groupOf(key))
	if r != nil && !r.isMember() {
		r = nil
	}
	switch {
	case r == nil && q.Header.Get(passedOn) != "":
		answer(w, failure{status: http.StatusServiceUnavailable, Code: "overloaded", Error: "the node does not have the group"})
	case r == nil:
		n.passOn(ctx, w, q, body)
	case q.Method == http.MethodGet:
		value, ok, err := r.get(ctx, key, q.URL.Query().Get("stale") != "")
		switch {
		case err != nil:
			answer(w, failure{status: http.StatusServiceUnavailable, Code: "unknown", Error: err.Error()})
		case !ok:
			answer(w, failure{status: http.StatusNotFound, Code: "key_not_found"})
		default:
			w.Header().Set("ETag", etagOf(value))
			_, _ = io.WriteString(w, value)
		}
	default:
		c := command{Key: key, Value: string(body), If: q.Header.Get("If-Match")+q.Header.Get("If-None-Match") != "", ETag: q.Header.Get("If-Match")}
		put(ctx, w, r, c)
	}
}

func put(ctx context.Context, w http.ResponseWriter, r *replica, c command) {
	res := r.put(ctx, c)
	f := failure{status: http.StatusServiceUnavailable, Code: "unknown", ETag: res.etag}
	switch {
	case res.err == nil:
		return
	case errors.Is(res.err, errChanged):
		f.status, f.Code = http.StatusPreconditionFailed, "changed"
	case errors.Is(res.err, raft.ErrProposalDropped):
		f.Code = "dropped"
	}
	f.Error = res.err.Error()
	answer(w, f)
}

var others = &http.Client{Transport: &http.Transport{
	DialContext: (&net.Dialer{Timeout: time.Second}).DialContext, MaxIdleConnsPerHost: 4, IdleConnTimeout: 5 * time.Second,
}}

// passOn asks the other nodes, until one has the group.
func (n *node) passOn(ctx context.Context, w http.ResponseWriter, q *http.Request, body []byte) {
	f := failure{status: http.StatusServiceUnavailable, Code: "overloaded", Error: "no node has the group"} // nothing was proposed
	for i := range uint64(len(n.cfg.clients)) {
		id := (n.cfg.id+i)%uint64(len(n.cfg.clients)) + 1
		if id == n.cfg.id {
			continue
		}
		resp, err := n.pass(ctx, id, q, body)
		if isNotSent(err) {
			continue
		}
		if err != nil {
			f.Code, f.Error = "unknown", err.Error()
			break
		}
		had := resp.status != http.StatusServiceUnavailable || resp.code() != "overloaded"
		if had {
			w.Header().Set("ETag", resp.etag)
			w.WriteHeader(resp.status)
			_, _ = w.Write(resp.body)
			return
		}
	}
	answer(w, f)
}

func isNotSent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// passed is the answer of another node.
type passed struct {
	status int
	etag   string
	body   []byte
}

func (p *passed) code() string {
	var f failure
	_ = json.Unmarshal(p.body, &f)
	return f.Code
}

func (n *node) pass(ctx context.Context, id uint64, q *http.Request, body []byte) (*passed, error) {
	req, err := http.NewRequestWithContext(ctx, q.Method, n.cfg.clients[id]+q.URL.RequestURI(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"If-Match", "If-None-Match"} {
		if v := q.Header.Get(name); v != "" {
			req.Header.Set(name, v)
		}
	}
	req.Header.Set(passedOn, "1")
	resp, err := others.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	p := &passed{status: resp.StatusCode, etag: resp.Header.Get("ETag")}
	p.body, err = io.ReadAll(io.LimitReader(resp.Body, 2*maxValue))
	return p, err
}
