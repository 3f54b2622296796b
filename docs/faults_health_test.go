//go:build linux

package docs_test

import (
	"fmt"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/statuspage"
)

// sign is a problem that a fault must be found as: its kind, and words of its cause, with "…" for anything.
type sign struct{ kind, words string }

// signs are those of the faults that an operator meets most: they must be found in Health and on the status page as well as in
// the log. That a slow disk fills no queue, which would be a sign, is in tests/operating.
var signs = map[string][]sign{
	"a member of another cluster":                         {{"peer_inactive", "cluster ID mismatch: ours is …, the peer's is …"}, {"identity_refused", "clients that are no peers, …: requests of another cluster"}},
	"a certificate that has expired":                      {{"peer_inactive", "certificate has expired or is not yet valid"}, {"handshake_failed", "(expired)"}},
	"an authority that the other does not trust":          {{"peer_inactive", "certificate signed by unknown authority"}, {"handshake_failed", "(unknown authority)"}},
	"a certificate for a name that nobody dials":          {{"peer_inactive", "certificate is valid for …, not …"}},
	"a certificate that is revoked":                       {{"peer_inactive", "is revoked"}, {"handshake_failed", "(revoked)"}},
	"no certificate":                                      {{"peer_inactive", "tls: certificate required"}, {"handshake_failed", "(no certificate)"}},
	"a certificate for another address than the client's": {{"handshake_failed", "(wrong address): certificate of … is for …"}},
	"https to a member without TLS":                       {{"peer_inactive", "first record does not look like a TLS handshake"}},
	"http to a member with TLS":                           {{"peer_inactive", "Client sent an HTTP request to an HTTPS server"}, {"handshake_failed", "(no TLS)"}},
	"the URL of another member":                           {{"peer_inactive", "to field mismatch"}},
	"the URL of another member, with VerifyPeer":          {{"peer_inactive", "or the peer URL leads to another member"}, {"identity_refused", "refuses its identity, …: dials"}},
	"a full disk":                                  {{"snapshot_failed", "the last snapshot to it failed: …disk full"}, {"snapshot_failed", "the last snapshot from it failed: …disk full"}},
	"a process that is stopped":                    {{"peer_inactive", "no progress within the read timeout"}, {"no_majority", "0 of 1 peers active"}},
	"a process that is killed":                     {{"peer_inactive", "connection refused"}, {"no_majority", "0 of 1 peers active"}},
	"a firewall that lets only the other one dial": {{"peer_inactive", "no connection within the dial timeout"}, {"stream_down", "a stream to it is down"}},
	"two members with one id":                      {{"stream_flaps", "reconnected … times in"}},
	"another web server":                           {{"peer_inactive", "member not found: …"}},
	"a server that is no web server":               {{"peer_inactive", "malformed HTTP response"}},
}

// requireSigns waits until members find a fault as the problems that it is known by, and requires that the status page shows
// each, and that operating.md has its kind and its section.
func (s *scene) requireSigns(of []sign) {
	s.Helper()
	document := read(s.T, "operating.md")
	for _, want := range of {
		var problem rafthttp.Problem
		found := func() bool {
			for _, m := range s.all {
				for _, p := range m.Health().Problems {
					if p.Kind == want.kind && pattern(want.words).MatchString(p.Cause) && onPage(m, p) {
						problem = p
						return true
					}
				}
			}
			return false
		}
		if end := time.Now().Add(patience); !found() {
			for tick := time.NewTicker(20 * time.Millisecond); !found(); <-tick.C {
				require.True(s, time.Now().Before(end), "no %s with %q, also on the page:\n%s", want.kind, want.words, s.health())
			}
		}
		require.Contains(s, document, "`"+problem.Kind+"`")
		section := regexp.MustCompile(`(?mi)^#+ ` + strings.ReplaceAll(problem.Anchor, "-", " ") + `$`)
		require.Regexp(s, section, document)
		require.False(s, problem.Since.IsZero(), "%v", problem)
	}
}

// onPage reports whether the status page of a member has a problem, in its text and in its health, whose status fits.
func onPage(m *player, p rafthttp.Problem) bool {
	text, health := httptest.NewRecorder(), httptest.NewRecorder()
	h := statuspage.Handler(m.Transport, nil)
	h.ServeHTTP(text, httptest.NewRequest("GET", "/?format=text", nil))
	h.ServeHTTP(health, httptest.NewRequest("GET", "/?format=health", nil))
	fits := (health.Code == 503) == strings.Contains(health.Body.String(), "critical ")
	return fits && strings.Contains(health.Body.String(), p.Cause) && (p.Severity == rafthttp.SeverityCritical || strings.Contains(text.Body.String(), p.Cause))
}

// health is what is wrong, by all members.
func (s *scene) health() string {
	var b strings.Builder
	for _, m := range s.all {
		fmt.Fprintf(&b, "%s: %v\n", m.ID, m.Health().Problems)
	}
	return b.String()
}

// TestSignsAreOfFaults: each sign is of a fault that is caused.
func TestSignsAreOfFaults(t *testing.T) {
	names := map[string]bool{}
	for _, f := range faults() {
		names[f.name] = true
	}
	for name := range signs {
		require.True(t, names[name], name)
	}
}
