package server

import (
	"encoding/json"
	"net/http"

	"github.com/seed-4d73690b/rafthttp"
)

// health is the answer of GET /health.
type health struct {
	Healthy   bool            `json:"healthy"`
	Leader    uint64          `json:"leader"`    // 0: none known
	Transport rafthttp.Health `json:"transport"` // what is wrong with the connections to other members
}

// getHealth says whether the member can serve: with 503 if it knows no leader, or if no majority
// of the members is active. It waits for nothing.
func (s *Server) getHealth(w http.ResponseWriter, _ *http.Request) {
	h := health{Leader: s.leader.Load(), Transport: s.transport.Health()}
	h.Healthy = h.Leader != 0 && h.Transport.Severity < rafthttp.SeverityCritical
	w.Header().Set("Content-Type", "application/json")
	if !h.Healthy {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(h) // the client has gone, if this fails
}
