package server

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/api"
	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/storage"
	"github.com/seed-4d73690b/rafthttp/statuspage"
)

// maxMemberBytes bounds the body that describes a member.
const maxMemberBytes = 16 << 10

// Handler is the client API. Every member answers every request; errors are an
// api.Error as JSON.
//
//	PUT    /kv/{key}          set a value: the body, as it is; with If-Match only if the
//	                          value has that ETag, with If-None-Match: * only if there is none
//	GET    /kv/{key}          read it, with its ETag; ?stale=true: without asking the group
//	DELETE /kv/{key}          remove it
//	GET    /members           who belongs to the cluster
//	POST   /members           add a member: {"id", "peer_url", "client_url"}
//	DELETE /members/{id}      remove a member
//	GET    /status            how this member sees itself, its group and its connections
//	GET    /health            whether it can serve: 503 without a leader, or without a majority of members
//	GET    /hash              hash of all data, and the entry it is the state after
//	POST   /compact           drop the part of the log that is not needed
//	GET    /debug/rafthttp    the connections to the other members, as a page, JSON or text
//	GET    /metrics           the same for Prometheus
//
// A server for the world would have the last two on a port for operators.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, h func(context.Context, *http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { s.answer(w, r, h) })
	}
	handle("PUT /kv/{key}", s.putKey)
	handle("GET /kv/{key}", s.getKey)
	handle("DELETE /kv/{key}", s.deleteKey)
	handle("GET /members", s.getMembers)
	handle("POST /members", s.postMember)
	handle("DELETE /members/{id}", s.deleteMember)
	handle("GET /status", s.getStatus)
	handle("GET /hash", s.getHash)
	handle("POST /compact", s.postCompact)
	mux.HandleFunc("GET /health", s.getHealth)
	mux.Handle("/debug/rafthttp", statuspage.Handler(s.transport, nil))
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.metrics, promhttp.HandlerOpts{}))
	handle("/", func(context.Context, *http.Request) (any, error) { return nil, api.ErrNoRoute })
	return mux
}

// answer runs a handler, and writes what it returns: bytes as they are,
// anything else as JSON.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, h func(context.Context, *http.Request) (any, error)) {
	ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
	defer cancel()
	r.Body = http.MaxBytesReader(w, r.Body, api.MaxValueBytes)
	result, err := h(ctx, r)
	status := http.StatusOK
	if err != nil {
		apiErr := s.toAPIError(err)
		if apiErr.Retry() {
			w.Header().Set("Retry-After", "1")
		}
		status, result = apiErr.Status, apiErr
	}
	if raw, ok := result.([]byte); ok {
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("ETag", api.ETag(raw))
		_, _ = w.Write(raw)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(result) // the client has gone, if this fails
}

func (s *Server) toAPIError(err error) *api.Error {
	var apiErr *api.Error
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &apiErr):
		return apiErr
	case errors.As(err, &tooLarge):
		return api.ErrTooLarge.Detail("at most %d bytes", tooLarge.Limit)
	case s.life.Err() != nil:
		return api.ErrStopping
	default:
		s.log.Error("request failed", zap.Error(err))
		return api.ErrInternal.Detail("%v", err)
	}
}

func requestKey(r *http.Request) ([]byte, error) {
	key := r.PathValue("key")
	if len(key) > api.MaxKeyBytes {
		return nil, api.ErrBadRequest.Detail("the key has %d bytes, at most %d are allowed", len(key), api.MaxKeyBytes)
	}
	return []byte(key), nil
}

func (s *Server) putKey(ctx context.Context, r *http.Request) (any, error) {
	key, err := requestKey(r)
	if err != nil {
		return nil, err
	}
	cond, conditional, err := requestCondition(r)
	if err != nil {
		return nil, err
	}
	value, err := readBody(r)
	if err != nil {
		return nil, err
	}
	if conditional {
		return s.propose(ctx, putIf(key, cond, value))
	}
	return s.propose(ctx, command{op: opPut, key: key, value: value})
}

// requestCondition returns what a write asks to be checked first: that the key
// has the value with an ETag, or that it has none.
func requestCondition(r *http.Request) (cond condition, ok bool, err error) {
	match, none := r.Header.Get("If-Match"), r.Header.Get("If-None-Match")
	switch {
	case match == "" && none == "":
		return cond, false, nil
	case match == "" && none == "*":
		return cond, true, nil
	case none != "":
		return cond, false, api.ErrBadRequest.Detail("If-None-Match: want *, and no If-Match beside it")
	}
	sum, err := hex.DecodeString(strings.Trim(match, `"`))
	if err != nil || len(sum) != len(cond) {
		return cond, false, api.ErrBadRequest.Detail("If-Match: %s is not the ETag of a value", match)
	}
	return condition(sum), true, nil
}

// readBody reads the body, up to the limit that answer has set.
func readBody(r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(r.Body)
	var tooLarge *http.MaxBytesError
	if err != nil && !errors.As(err, &tooLarge) {
		err = api.ErrBadRequest.Detail("body: %v", err)
	}
	return body, err
}

func (s *Server) getKey(ctx context.Context, r *http.Request) (any, error) {
	key, err := requestKey(r)
	if err != nil {
		return nil, err
	}
	stale, err := flagParameter(r, "stale")
	if err != nil {
		return nil, err
	}
	if !stale {
		if err := s.linearize(ctx); err != nil {
			return nil, err
		}
	}
	value, ok, err := s.storage.Data.Get(key)
	if err == nil && !ok {
		err = api.ErrKeyNotFound
	}
	return value, err
}

func flagParameter(r *http.Request, name string) (bool, error) {
	v := r.URL.Query().Get(name)
	if v == "" {
		return false, nil
	}
	b, err := strconv.ParseBool(v)
	if err != nil {
		return false, api.ErrBadRequest.Detail("%s=%s: want true or false", name, v)
	}
	return b, nil
}

func (s *Server) deleteKey(ctx context.Context, r *http.Request) (any, error) {
	key, err := requestKey(r)
	if err != nil {
		return nil, err
	}
	return s.propose(ctx, command{op: opDelete, key: key})
}

func (s *Server) getMembers(ctx context.Context, _ *http.Request) (any, error) {
	if err := s.linearize(ctx); err != nil {
		return nil, err
	}
	return s.cluster(), nil
}

func (s *Server) postMember(ctx context.Context, r *http.Request) (any, error) {
	var m storage.Member
	d := json.NewDecoder(io.LimitReader(r.Body, maxMemberBytes))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return nil, api.ErrBadRequest.Detail("want a member as JSON: %v", err)
	}
	if err := s.AddMember(ctx, m); err != nil {
		return nil, err
	}
	return s.cluster(), nil
}

func (s *Server) deleteMember(ctx context.Context, r *http.Request) (any, error) {
	id, err := strconv.ParseUint(r.PathValue("id"), 10, 64)
	if err != nil {
		return nil, api.ErrBadRequest.Detail("%q is not a member id", r.PathValue("id"))
	}
	if err := s.RemoveMember(ctx, id); err != nil {
		return nil, err
	}
	return s.cluster(), nil
}

func (s *Server) cluster() api.Cluster {
	return api.Cluster{ID: s.clusterID, Members: sortedMembers(s.storage.Data.Membership())}
}

func sortedMembers(ms storage.Membership) []storage.Member {
	return slices.SortedFunc(maps.Values(ms.Members), func(a, b storage.Member) int { return cmp.Compare(a.ID, b.ID) })
}

func (s *Server) getStatus(context.Context, *http.Request) (any, error) { return s.Status(), nil }

// Status is how the member sees itself, its group, and its connections.
func (s *Server) Status() api.Status {
	status, ms := s.node.Status(), s.storage.Data.Membership()
	role := strings.ToLower(strings.TrimPrefix(status.RaftState.String(), "State"))
	if ms.Members[s.cfg.ID].Learner {
		role = "learner"
	}
	return api.Status{
		ID:        s.cfg.ID,
		ClusterID: s.clusterID,
		Role:      role,
		Leader:    status.Lead,
		Term:      status.GetTerm(),
		Commit:    status.GetCommit(),
		Applied:   s.storage.Data.Position().Index,
		Log:       s.logStatus(),
		DBSize:    s.storage.Data.Size(),
		Members:   sortedMembers(ms),
		Snapshots: s.snapshots.counts(),
		Transport: s.transport.Status(),
	}
}

func (s *Server) logStatus() api.LogStatus {
	first, last, bytes := s.storage.Log.Extent()
	return api.LogStatus{First: first, Last: last, Bytes: bytes}
}

func (s *Server) getHash(context.Context, *http.Request) (any, error) {
	return s.storage.Data.Digest()
}

func (s *Server) postCompact(context.Context, *http.Request) (any, error) {
	s.state.Lock()
	defer s.state.Unlock()
	if err := s.compact(); err != nil {
		return nil, err
	}
	return s.logStatus(), nil
}
