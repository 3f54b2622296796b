// Package rulecheck loads the example alerts and the example dashboard with the
// parser of Prometheus. It is a module of its own, to keep Prometheus out of the
// dependencies of metrics.
package rulecheck

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/metrics"
)

// family is what there is of a name in a query.
type family struct {
	labels []string
	typ    dto.MetricType // of the whole metric: a histogram has counters
}

// families are the names that can be queried: those of the metrics that a
// collector describes, and what a histogram is made of.
func families(t *testing.T) map[string]family {
	t.Helper()
	s, _ := live(t, true)
	c := metrics.New(&rafthttp.Transport{}, &metrics.Options{SlowProcess: 1, WorstGroups: 1})
	ch := make(chan *prometheus.Desc, 1000)
	c.Describe(ch)
	close(ch)
	desc := regexp.MustCompile(`fqName: "(\w+)".*variableLabels: \{(.*?)\}`)
	all := map[string]family{}
	for d := range ch {
		m := desc.FindStringSubmatch(d.String())
		require.NotNil(t, m, d.String())
		typ, ok := s.types[m[1]]
		require.True(t, ok, "%s was not scraped", m[1])
		labels := append(strings.Split(m[2], ","), "instance", "job")
		if typ != dto.MetricType_HISTOGRAM {
			all[m[1]] = family{labels, typ}
			continue
		}
		all[m[1]+"_sum"], all[m[1]+"_count"] = family{labels, typ}, family{labels, typ}
		all[m[1]+"_bucket"] = family{append(labels, "le"), typ}
	}
	require.Greater(t, len(all), 50)
	return all
}

// check parses an expression, and requires of each metric in it that there is
// one, with the labels that it is selected by, and of a type that suits the
// functions around it.
func check(t *testing.T, all map[string]family, expr string) {
	t.Helper()
	parsed, err := parser.NewParser(parser.Options{}).ParseExpr(expr)
	require.NoError(t, err, expr)
	selectors := 0
	parser.Inspect(parsed, func(n parser.Node, path []parser.Node) error {
		switch n := n.(type) {
		case *parser.VectorSelector:
			selectors++
			f, ok := all[n.Name]
			require.True(t, ok, "no metric %s in %s", n.Name, expr)
			for _, m := range n.LabelMatchers {
				if m.Name != model.MetricNameLabel {
					require.Contains(t, f.labels, m.Name, expr)
				}
			}
			counted := slices.ContainsFunc(path, func(n parser.Node) bool {
				call, ok := n.(*parser.Call)
				return ok && slices.Contains([]string{"rate", "irate", "increase"}, call.Func.Name)
			})
			require.Equal(t, f.typ != dto.MetricType_GAUGE, counted, "rates are of counters, and counters are looked at by their rates: %s", expr)
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
func anyHas(all map[string]family, n parser.Node, label string) (found bool) {
	parser.Inspect(n, func(n parser.Node, _ []parser.Node) error {
		if s, ok := n.(*parser.VectorSelector); ok {
			found = found || slices.Contains(all[s.Name].labels, label)
		}
		return nil
	})
	return found
}

// alerts are the example alerts.
func alerts(t *testing.T) (all []rulefmt.Rule) {
	t.Helper()
	file, err := os.ReadFile("../alerts.yml")
	require.NoError(t, err)
	groups, errs := rulefmt.Parse(file, false, model.UTF8Validation, parser.NewParser(parser.Options{}))
	require.Empty(t, errs)
	for _, g := range groups.Groups {
		all = append(all, g.Rules...)
	}
	require.Len(t, all, 21)
	return all
}

func TestAlerts(t *testing.T) {
	all := families(t)
	for _, r := range alerts(t) {
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
	}
}

type gridPos struct{ H, W, X, Y int }

type datasource struct{ Type, UID string }

// grafana is the part of a dashboard that is checked.
type grafana struct {
	Title, UID    string
	SchemaVersion int
	Panels        []struct {
		ID                       int
		Type, Title, Description string
		GridPos                  gridPos
		Datasource               datasource
		FieldConfig              struct{ Defaults struct{ Unit string } }
		Targets                  []struct {
			RefID, Expr, LegendFormat string
			Datasource                datasource
		}
	}
	Templating struct {
		List []struct {
			Name, Type, Definition string
			Query                  any
			Datasource             datasource
		}
	}
}

func dashboard(t *testing.T) (d grafana) {
	t.Helper()
	file, err := os.ReadFile("../dashboard.json")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(file, &d))
	return d
}

// filled is an expression of the dashboard with its variables filled in.
func filled(expr, instance, peer string) string {
	return strings.NewReplacer("$__rate_interval", "1m", "$instance", instance, "$peer", peer).Replace(expr)
}

func TestDashboard(t *testing.T) {
	d := dashboard(t)
	require.Equal(t, "rafthttp", d.Title)
	all, ids, shown := families(t), map[int]bool{}, ""
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
			check(t, all, filled(target.Expr, "m1", "2"))
			shown += target.Expr
		}
	}
	require.Contains(t, shown, "rafthttp_problems{", "what Health finds, where one looks first")
}

// TestAlertsHavePanels: each metric that an alert reads is on the dashboard, where one looks when the alert fires.
func TestAlertsHavePanels(t *testing.T) {
	shown, read := map[string]bool{}, 0
	for _, p := range dashboard(t).Panels {
		for _, target := range p.Targets {
			for _, name := range names(t, filled(target.Expr, "m1", "2")) {
				shown[name] = true
			}
		}
	}
	for _, r := range alerts(t) {
		for _, name := range names(t, r.Expr) {
			require.True(t, shown[name], "no panel shows %s, which the alert %s reads", name, r.Alert)
			read++
		}
	}
	require.Greater(t, read, 15)
}

// isOfPeers reports whether a metric in an expression has series for each peer.
func isOfPeers(t *testing.T, all map[string]family, expr string) bool {
	t.Helper()
	parsed, err := parser.NewParser(parser.Options{}).ParseExpr(expr)
	require.NoError(t, err, expr)
	return slices.ContainsFunc([]string{"peer", "To", "From", "Remote"}, func(label string) bool { return anyHas(all, parsed, label) })
}

// names returns the metrics in an expression.
func names(t *testing.T, expr string) (all []string) {
	t.Helper()
	parsed, err := parser.NewParser(parser.Options{}).ParseExpr(expr)
	require.NoError(t, err, expr)
	parser.Inspect(parsed, func(n parser.Node, _ []parser.Node) error {
		if s, ok := n.(*parser.VectorSelector); ok {
			all = append(all, s.Name)
		}
		return nil
	})
	return all
}
