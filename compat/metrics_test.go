package compat_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"
	stock "go.etcd.io/etcd/server/v3/etcdserver/api/rafthttp"
)

// TestMetricsOfUpstream holds the list that the metrics module is tested against
// to etcd's own registry: nothing can be registered beside a metric of the same
// name but itself, with the same labels and the same help.
func TestMetricsOfUpstream(t *testing.T) {
	file, err := os.ReadFile("../metrics/testdata/etcd-3.7.3.txt")
	require.NoError(t, err)
	names, buckets := 0, map[string][]float64{}
	histograms := map[string]*prometheus.HistogramVec{}
	for line := range strings.Lines(string(file)) {
		f := strings.Fields(line)
		switch f[0] {
		case "#":
		case "buckets":
			for _, s := range f[2:] {
				v, err := strconv.ParseFloat(s, 64)
				require.NoError(t, err)
				buckets[f[1]] = append(buckets[f[1]], v)
			}
		default:
			registered := existing(t, f[0], f[1], strings.Split(f[2], ","), strings.Join(f[3:], " "))
			if h, ok := registered.(*prometheus.HistogramVec); ok {
				histograms[f[1]] = h
			}
			names++
		}
	}
	require.Equal(t, inSource(t), names, "upstream has as many")
	require.Len(t, buckets, len(histograms))
	for name, h := range histograms {
		o, err := h.GetMetricWithLabelValues("test")
		require.NoError(t, err)
		var m dto.Metric
		require.NoError(t, o.(prometheus.Metric).Write(&m))
		h.DeleteLabelValues("test")
		var bounds []float64
		for _, b := range m.GetHistogram().GetBucket() {
			bounds = append(bounds, b.GetUpperBound())
		}
		require.InDeltaSlice(t, buckets[name], bounds, 1e-9, name)
	}
}

// existing returns what upstream has registered under the name.
func existing(t *testing.T, kind, name string, labels []string, help string) prometheus.Collector {
	t.Helper()
	var c prometheus.Collector
	switch kind {
	case "gauge":
		c = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	case "counter":
		c = prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	case "histogram":
		c = prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help}, labels)
	}
	require.NotNil(t, c, kind)
	var already prometheus.AlreadyRegisteredError
	require.ErrorAs(t, prometheus.Register(c), &already, "%s: upstream has none like it", name)
	require.IsType(t, c, already.ExistingCollector, name)
	return already.ExistingCollector
}

// inSource counts the metrics that upstream's package makes.
func inSource(t *testing.T) (n int) {
	t.Helper()
	start, _ := runtime.FuncForPC(reflect.ValueOf(stock.NewListener).Pointer()).FileLine(reflect.ValueOf(stock.NewListener).Pointer())
	files, err := filepath.Glob(filepath.Join(filepath.Dir(start), "*.go"))
	require.NoError(t, err)
	for _, name := range files {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		require.NoError(t, err)
		ast.Inspect(f, func(node ast.Node) bool {
			if call, ok := node.(*ast.CallExpr); ok {
				if s, ok := call.Fun.(*ast.SelectorExpr); ok && strings.HasPrefix(s.Sel.Name, "New") && strings.HasSuffix(s.Sel.Name, "Vec") {
					n++
				}
			}
			return true
		})
	}
	require.Positive(t, n)
	return n
}
