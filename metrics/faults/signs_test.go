//go:build linux

package faults_test

import (
	"fmt"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/statuspage"
)

// sign is a problem that a fault must be found as: its kind, and words of its cause, with "…" for anything.
type sign struct{ kind, words string }

// signs are those of the faults that an operator meets most: they must be found in Health, on the status page and in the metrics as
// well as in the log. That a slow disk fills no queue, which would be a sign, is in tests/operating.
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

// requireSigns waits until members find a fault as the problems that it is known by, and requires that the status page and the
// metrics show each, and that operating.md has its kind and its section.
func (s *scene) requireSigns(of []sign) {
	s.Helper()
	document := read(s.T, "operating.md")
	for _, want := range of {
		var problem rafthttp.Problem
		found := func() bool {
			for _, m := range s.all {
				for _, p := range m.Health().Problems {
					if p.Kind == want.kind && pattern(want.words).MatchString(p.Cause) && onPage(m, p) && m.inMetrics(s.T, p) {
						problem = p
						return true
					}
				}
			}
			return false
		}
		if end := time.Now().Add(patience); !found() {
			for tick := time.NewTicker(20 * time.Millisecond); !found(); <-tick.C {
				require.True(s, time.Now().Before(end), "no %s with %q, also on the page and in the metrics:\n%s", want.kind, want.words, s.health())
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

// evidence is what the metrics have of a kind of problem beside rafthttp_problems: a metric, the labels of one of its series,
// and what the value of that is.
var evidence = map[string]func(p rafthttp.Problem) (name string, labels map[string]string, is func(v float64) bool){
	"peer_inactive": func(p rafthttp.Problem) (string, map[string]string, func(float64) bool) {
		return "etcd_network_active_peers", map[string]string{"Remote": p.Peer.String()}, isZero
	},
	"no_majority": func(rafthttp.Problem) (string, map[string]string, func(float64) bool) {
		return "etcd_network_active_peers", nil, isZero
	},
	"stream_down": func(p rafthttp.Problem) (string, map[string]string, func(float64) bool) {
		return "rafthttp_stream_up", map[string]string{"peer": p.Peer.String(), "direction": "out"}, isZero
	},
	"stream_flaps": func(p rafthttp.Problem) (string, map[string]string, func(float64) bool) {
		return "rafthttp_stream_connects_total", map[string]string{"peer": p.Peer.String()}, func(v float64) bool { return v > 3 }
	},
	"identity_refused": func(p rafthttp.Problem) (string, map[string]string, func(float64) bool) {
		kind := "other_cluster"
		if strings.HasSuffix(p.Cause, ": dials") {
			kind = "dial"
		}
		return "rafthttp_identity_refused_total", map[string]string{"kind": kind}, isPositive
	},
	"handshake_failed": func(p rafthttp.Problem) (string, map[string]string, func(float64) bool) {
		reason := regexp.MustCompile(`\(([a-zA-Z ]+)\): `).FindStringSubmatch(p.Cause)[1]
		return "rafthttp_handshake_failures_total", map[string]string{"reason": strings.ReplaceAll(reason, " ", "_")}, isPositive
	},
	"snapshot_failed": func(p rafthttp.Problem) (string, map[string]string, func(float64) bool) {
		if strings.Contains(p.Cause, "snapshot from it") {
			return "etcd_network_snapshot_receive_failures", map[string]string{"From": p.Peer.String()}, isPositive
		}
		return "etcd_network_snapshot_send_failures", map[string]string{"To": p.Peer.String()}, isPositive
	},
}

func isZero(v float64) bool     { return v == 0 }
func isPositive(v float64) bool { return v > 0 }

// inMetrics reports whether what is scraped of a member has a problem, and its evidence.
func (m *player) inMetrics(t *testing.T, p rafthttp.Problem) bool {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	require.NoError(t, registry.Register(m.metrics))
	all, err := registry.Gather()
	require.NoError(t, err)
	peer := m.ID.String()
	if p.Peer != 0 {
		peer = p.Peer.String()
	}
	problem := map[string]string{"kind": p.Kind, "severity": p.Severity.String(), "peer": peer, "groups": ""}
	require.Contains(t, evidence, p.Kind)
	name, labels, is := evidence[p.Kind](p)
	return hasSeries(all, "rafthttp_problems", problem, isPositive) && hasSeries(all, name, labels, is)
}

// hasSeries reports whether a metric has a series with these labels, and others, whose value is so.
func hasSeries(all []*dto.MetricFamily, name string, labels map[string]string, is func(float64) bool) bool {
	for _, f := range all {
		for _, m := range f.GetMetric() {
			missing := len(labels)
			for _, l := range m.GetLabel() {
				if want, ok := labels[l.GetName()]; ok && want == l.GetValue() {
					missing--
				}
			}
			if f.GetName() == name && missing == 0 && is(m.GetGauge().GetValue()+m.GetCounter().GetValue()) {
				return true
			}
		}
	}
	return false
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
