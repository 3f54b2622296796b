package rulecheck

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"
	"github.com/stretchr/testify/require"
)

// store keeps what was scraped, for the engine of Prometheus to look at.
type store struct {
	storage.LabelQuerier // which the engine does not ask
	series               map[string]*promql.Series
	types                map[string]dto.MetricType // of each family
	end                  time.Time                 // of the last sample
}

func newStore() *store {
	return &store{LabelQuerier: storage.NoopQuerier(), series: map[string]*promql.Series{}, types: map[string]dto.MetricType{}}
}

// clone returns a copy whose samples can be changed.
func (s *store) clone() *store {
	c := &store{LabelQuerier: s.LabelQuerier, series: map[string]*promql.Series{}, types: s.types, end: s.end}
	for key, one := range s.series {
		c.series[key] = &promql.Series{Metric: one.Metric, Floats: slices.Clone(one.Floats)}
	}
	return c
}

// add adds a sample.
func (s *store) add(at time.Time, value float64, lbs labels.Labels) {
	key := lbs.String()
	if s.series[key] == nil {
		s.series[key] = &promql.Series{Metric: lbs}
	}
	s.series[key].Floats = append(s.series[key].Floats, promql.FPoint{T: at.UnixMilli(), F: value})
}

// scrape adds what a registry has now, as Prometheus does with that of an
// instance.
func (s *store) scrape(t *testing.T, from prometheus.Gatherer, instance string) {
	t.Helper()
	families, err := from.Gather()
	require.NoError(t, err)
	now := time.Now()
	for _, f := range families {
		s.types[f.GetName()] = f.GetType()
		for _, m := range f.GetMetric() {
			base := map[string]string{"instance": instance, "job": "raft"}
			for _, l := range m.GetLabel() {
				base[l.GetName()] = l.GetValue()
			}
			put := func(name string, value float64, more ...string) {
				b := labels.NewBuilder(labels.FromMap(base))
				b.Set(model.MetricNameLabel, name)
				for i := 0; i < len(more); i += 2 {
					b.Set(more[i], more[i+1])
				}
				s.add(now, value, b.Labels())
			}
			switch name := f.GetName(); f.GetType() {
			case dto.MetricType_COUNTER:
				put(name, m.GetCounter().GetValue())
			case dto.MetricType_GAUGE:
				put(name, m.GetGauge().GetValue())
			case dto.MetricType_HISTOGRAM:
				h := m.GetHistogram()
				put(name+"_sum", h.GetSampleSum())
				put(name+"_count", float64(h.GetSampleCount()))
				for _, b := range h.GetBucket() {
					put(name+"_bucket", float64(b.GetCumulativeCount()), "le", strconv.FormatFloat(b.GetUpperBound(), 'g', -1, 64))
				}
				put(name+"_bucket", float64(h.GetSampleCount()), "le", "+Inf")
			default:
				require.Fail(t, "a metric of another type", name)
			}
		}
	}
}

// queryable makes a storage.Queryable of a store.
type queryable struct{ *store }

func (q queryable) Querier(int64, int64) (storage.Querier, error) { return q.store, nil }

// Select implements storage.Querier.
func (s *store) Select(_ context.Context, _ bool, _ *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
	set := &seriesSet{}
	for _, one := range s.series {
		if !slices.ContainsFunc(matchers, func(m *labels.Matcher) bool { return !m.Matches(one.Metric.Get(m.Name)) }) {
			set.rest = append(set.rest, one)
		}
	}
	slices.SortFunc(set.rest, func(a, b *promql.Series) int { return strings.Compare(a.Metric.String(), b.Metric.String()) })
	return set
}

type seriesSet struct {
	at   *promql.Series
	rest []*promql.Series
}

func (s *seriesSet) Next() bool {
	if len(s.rest) == 0 {
		return false
	}
	s.at, s.rest = s.rest[0], s.rest[1:]
	return true
}
func (s *seriesSet) At() storage.Series                { return promql.NewStorageSeries(*s.at) }
func (s *seriesSet) Err() error                        { return nil }
func (s *seriesSet) Warnings() annotations.Annotations { return nil }

var engine = promql.NewEngine(promql.EngineOpts{
	MaxSamples: 1e6, Timeout: time.Minute, LookbackDelta: 5 * time.Minute, Parser: parser.NewParser(parser.Options{}),
})

// query returns what an expression is at a time.
func (s *store) query(t *testing.T, expr string, at time.Time) promql.Vector {
	t.Helper()
	q, err := engine.NewInstantQuery(t.Context(), queryable{s}, nil, expr, at)
	require.NoError(t, err, expr)
	defer q.Close()
	result := q.Exec(t.Context())
	require.NoError(t, result.Err, expr)
	warnings, _ := result.Warnings.AsStrings(expr, 0, 0) // not that etcd's names of counters lack _total
	require.Empty(t, warnings, expr)
	v, err := result.Vector()
	require.NoError(t, err, expr)
	return slices.Clone(v)
}

// change changes the samples of the series that a selector names.
func (s *store) change(t *testing.T, selector string, f func(sample int, value float64) float64) {
	t.Helper()
	matchers, err := parser.NewParser(parser.Options{}).ParseMetricSelector(selector)
	require.NoError(t, err, selector)
	set, n := s.Select(t.Context(), false, nil, matchers...).(*seriesSet), 0
	for set.Next() {
		for i := range set.at.Floats {
			set.at.Floats[i].F = f(i, set.at.Floats[i].F)
		}
		n++
	}
	require.Positive(t, n, selector)
}
