package metrics

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp"
)

// TestAppendHistogramIsThatOfPrometheus: what Status has counted becomes the same histogram, native and classic, as that of
// Prometheus's own client.
func TestAppendHistogramIsThatOfPrometheus(t *testing.T) {
	var bounds []float64
	for k := firstClassic; k <= lastClassic; k += 2 {
		bounds = append(bounds, math.Exp2(float64(k)))
	}
	for name, values := range map[string][]float64{
		"empty": nil, "one": {0.003}, "bounds": {math.Exp2(-14), 1, 16}, "neighbours": {1, 1.1, 1.3, 1.5, 7},
		"many": nil,
	} {
		if name == "many" {
			for range 1000 {
				values = append(values, math.Exp(rand.NormFloat64()*2-6))
			}
		}
		t.Run(name, func(t *testing.T) {
			theirs := prometheus.NewHistogram(prometheus.HistogramOpts{
				Name: "x", Buckets: bounds, NativeHistogramBucketFactor: 1.19, NativeHistogramZeroThreshold: prometheus.NativeHistogramZeroThresholdZero,
			})
			l := rafthttp.LatencyStatus{Buckets: map[int]uint64{}}
			for _, v := range values {
				theirs.Observe(v)
				l.Count++
				l.Sum += time.Duration(v * float64(time.Second))
				l.Buckets[int(math.Ceil(math.Log2(v)*perOctave))]++
			}
			var want, got dto.Metric
			require.NoError(t, theirs.Write(&want))
			require.NoError(t, latencyHistogram{"2", "wire", l}.Write(&got))
			require.InDelta(t, want.Histogram.GetSampleSum(), got.Histogram.GetSampleSum(), 1e-5)
			require.Equal(t, want.Histogram.GetSampleCount(), got.Histogram.GetSampleCount())
			require.Equal(t, want.Histogram.GetSchema(), got.Histogram.GetSchema())
			require.Equal(t, want.Histogram.GetZeroCount(), got.Histogram.GetZeroCount())
			require.Equal(t, counts(want.Histogram), counts(got.Histogram))
			require.Len(t, got.Histogram.GetBucket(), len(bounds))
			for k, b := range want.Histogram.GetBucket() {
				require.Equal(t, b.String(), got.Histogram.GetBucket()[k].String())
			}
			require.NotEmpty(t, got.Histogram.GetPositiveSpan(), "without a span it would not be native")
		})
	}
}

// counts are those of the native buckets that are not empty.
func counts(h *dto.Histogram) map[int32]int64 {
	all := map[int32]int64{}
	var i int32
	var n int64
	deltas := h.PositiveDelta
	for _, span := range h.PositiveSpan {
		i += span.GetOffset()
		for range span.GetLength() {
			if n += deltas[0]; n > 0 {
				all[i] = n
			}
			deltas = deltas[1:]
			i++
		}
	}
	return all
}
