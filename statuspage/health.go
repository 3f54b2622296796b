package statuspage

import (
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/seed-4d73690b/rafthttp"
)

// whose says who has a problem.
func whose(p rafthttp.Problem, name func(uint64) string) string {
	label := memberName{p.Peer.String(), name(uint64(p.Peer))}.label()
	switch {
	case p.Peer == 0:
		return "this member"
	case p.Groups:
		return "node " + label + " of raft groups"
	default:
		return "peer " + label
	}
}

// writeHealth writes one line for each problem, and returns the status of the response.
func writeHealth(w io.Writer, h rafthttp.Health, name func(uint64) string) int {
	for _, p := range h.Problems {
		of := whose(p, name)
		since := ""
		if !p.Since.IsZero() {
			since = " since " + p.Since.UTC().Format(time.RFC3339)
		}
		fmt.Fprintf(w, "%s %s: %s: %s%s (docs/operating.md#%s)\n", p.Severity, p.Kind, plain(of), plain(p.Cause), since, p.Anchor)
	}
	if len(h.Problems) == 0 {
		fmt.Fprintln(w, "ok")
	}
	if h.Severity >= rafthttp.SeverityCritical {
		return http.StatusServiceUnavailable
	}
	return http.StatusOK
}
