// Package rulecheck loads the example alerts and the example dashboard with the
// parser of Prometheus. It is a module of its own, to keep Prometheus out of the
// dependencies of metrics.
package rulecheck

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/metrics"
)

// families are the labels of each metric that a collector describes.
func families(t *testing.T) map[string][]string {
	t.Helper()
	c := metrics.New(&rafthttp.Transport{}, &metrics.Options{SlowProcess: 1})
	ch := make(chan *prometheus.Desc, 1000)
	c.Describe(ch)
	close(ch)
	desc := regexp.MustCompile(`fqName: "(\w+)".*variableLabels: \{(.*?)\}`)
	all := map[string][]string{}
	for d := range ch {
		m := desc.FindStringSubmatch(d.String())
		require.NotNil(t, m, d.String())
		labels := append(strings.Split(m[2], ","), "instance", "job")
		for _, suffix := range []string{"", "_bucket", "_sum", "_count"} {
			all[m[1]+suffix] = append(labels, "le")
		}
	}
	require.Greater(t, len(all), 100)
	return all
}

// check parses an expression, and requires of each metric in it that there is
// one, with the labels that it is selected by.
func check(t *testing.T, all map[string][]string, expr string) {
	t.Helper()
	parsed, err := parser.NewParser(parser.Options{}).ParseExpr(expr)
	require.NoError(t, err, expr)
	selectors := 0
	parser.Inspect(parsed, func(n parser.Node, _ []parser.Node) error {
		switch n := n.(type) {
		case *parser.VectorSelector:
			selectors++
			labels, ok := all[n.Name]
			require.True(t, ok, "no metric %s in %s", n.Name, expr)
			for _, m := range n.LabelMatchers {
				if m.Name != model.MetricNameLabel {
					require.Contains(t, labels, m.Name, expr)
				}
			}
		case *parser.AggregateExpr:
			for _, l := range n.Grouping {
				require.True(t, anyHas(all, n, l), "no label %s in %s", l, n)
			}
		}
		return nil
	})
	require.Positive(t, selectors, expr)
}

// anyHas reports whether a metric below n has the label.
func anyHas(all map[string][]string, n parser.Node, label string) (found bool) {
	parser.Inspect(n, func(n parser.Node, _ []parser.Node) error {
		if s, ok := n.(*parser.VectorSelector); ok {
			for _, l := range all[s.Name] {
				found = found || l == label
			}
		}
		return nil
	})
	return found
}

func TestAlerts(t *testing.T) {
	file, err := os.ReadFile("../alerts.yml")
	require.NoError(t, err)
	groups, errs := rulefmt.Parse(file, false, model.UTF8Validation, parser.NewParser(parser.Options{}))
	require.Empty(t, errs)
	all, n := families(t), 0
	for _, g := range groups.Groups {
		for _, r := range g.Rules {
			t.Run(r.Alert, func(t *testing.T) {
				check(t, all, r.Expr)
				require.NotEmpty(t, r.Annotations["summary"])
				require.Contains(t, []string{"critical", "warning"}, r.Labels["severity"])
				for _, text := range r.Annotations {
					for _, l := range regexp.MustCompile(`\$labels\.(\w+)`).FindAllStringSubmatch(text, -1) {
						expr, err := parser.NewParser(parser.Options{}).ParseExpr(r.Expr)
						require.NoError(t, err)
						require.True(t, anyHas(all, expr, l[1]), "no label %s in %s", l[1], r.Expr)
					}
				}
			})
			n++
		}
	}
	require.Equal(t, 12, n)
}

func TestDashboard(t *testing.T) {
	file, err := os.ReadFile("../dashboard.json")
	require.NoError(t, err)
	type gridPos struct{ H, W, X, Y int }
	var d struct {
		Title  string
		Panels []struct {
			ID          int
			Type, Title string
			GridPos     gridPos
			Targets     []struct{ Expr string }
		}
		Templating struct {
			List []struct{ Name, Query string }
		}
	}
	dec := json.NewDecoder(strings.NewReader(strings.ReplaceAll(string(file), `"query": {`, `"q": {`)))
	require.NoError(t, dec.Decode(&d))
	require.Equal(t, "rafthttp", d.Title)
	all, ids := families(t), map[int]bool{}
	for i, p := range d.Panels {
		require.False(t, ids[p.ID], "id %d twice", p.ID)
		ids[p.ID] = true
		for _, q := range d.Panels[:i] {
			apart := p.GridPos.X >= q.GridPos.X+q.GridPos.W || q.GridPos.X >= p.GridPos.X+p.GridPos.W ||
				p.GridPos.Y >= q.GridPos.Y+q.GridPos.H || q.GridPos.Y >= p.GridPos.Y+p.GridPos.H
			require.True(t, apart, "%q is on top of %q", p.Title, q.Title)
		}
		if p.Type == "row" {
			continue
		}
		require.NotEmpty(t, p.Targets, p.Title)
		for _, target := range p.Targets {
			check(t, all, strings.ReplaceAll(target.Expr, "$__rate_interval", "1m"))
		}
	}
	require.Contains(t, string(file), "label_values(rafthttp_peer_info, peer)")
	require.Contains(t, all, "rafthttp_peer_info")
	require.Contains(t, all, "rafthttp_remotes")
}
