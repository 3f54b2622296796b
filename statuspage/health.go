package statuspage

import (
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/seed-4d73690b/rafthttp"
)

// writeHealth writes one line for each problem, and returns the status of the response.
func writeHealth(w io.Writer, h rafthttp.Health, name func(uint64) string) int {
	for _, p := range h.Problems {
		of := "this member"
		if p.Peer != 0 {
			of = "peer " + memberName{p.Peer.String(), name(uint64(p.Peer))}.label()
		}
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
