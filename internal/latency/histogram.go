package latency

import (
	"math"
	"time"
)

// The buckets of a Histogram are those of a native histogram of Prometheus with this schema: there
// are 1<<Schema for each power of 2, and bucket i has what is over 2^((i-1)/4) s and up to 2^(i/4) s.
const (
	Schema = 2

	perOctave = 1 << Schema
	lowest    = -17 * perOctave // what is below 7.6 µs is in the first bucket
	highest   = 7 * perOctave   // what is over 128 s is in the last
	buckets   = highest - lowest + 1
)

// generation is how long the recent values are collected before they begin to be forgotten.
const generation = 30 * time.Second

// Histogram is a distribution of durations, since it was made and of late: of the last one to two generations, up to three if
// none is added for one. The zero value is empty. It is not safe for concurrent use.
type Histogram struct {
	sum    time.Duration
	total  [buckets]uint64
	recent [2][buckets]uint32 // the last one that is complete, and the current one
	turned time.Time          // when the current one began
}

// bounds are 2^(-3/4), 2^(-2/4) and 2^(-1/4).
var bounds = [perOctave - 1]float64{math.Exp2(-0.75), math.Exp2(-0.5), math.Exp2(-0.25)}

// bucketOf returns the index of the bucket for d, counted from lowest.
func bucketOf(d time.Duration) int {
	if d <= 0 {
		return 0
	}
	fraction, exponent := math.Frexp(d.Seconds())
	i := (exponent - 1) * perOctave
	if fraction > 0.5 {
		i++
		for _, b := range bounds {
			if fraction > b {
				i++
			}
		}
	}
	return min(max(i, lowest), highest) - lowest
}

// upper returns the upper bound of a bucket.
func upper(bucket int) time.Duration {
	return time.Duration(math.Exp2(float64(bucket+lowest)/perOctave) * float64(time.Second))
}

// add counts d, at this time.
func (h *Histogram) add(d time.Duration, now time.Time) {
	h.turn(now)
	i := bucketOf(d)
	h.sum += max(d, 0)
	h.total[i]++
	h.recent[1][i]++
}

// turn forgets what is not recent any more.
func (h *Histogram) turn(now time.Time) {
	age := now.Sub(h.turned)
	if age < generation {
		return
	}
	h.recent[0], h.recent[1] = h.recent[1], [buckets]uint32{}
	if age >= 2*generation {
		h.recent[0] = [buckets]uint32{}
	}
	h.turned = now
}

// Distribution is a copy of what a Histogram has counted.
type Distribution struct {
	Count    uint64
	Sum      time.Duration
	P50, P99 time.Duration  // of late, as the middle of a bucket; 0: there was nothing
	Buckets  map[int]uint64 // by the index of the native histogram; only those that are not empty
}

func (h *Histogram) distribution(now time.Time) Distribution {
	h.turn(now)
	d := Distribution{Sum: h.sum, Buckets: map[int]uint64{}}
	for i, n := range h.total {
		if n > 0 {
			d.Count += n
			d.Buckets[i+lowest] = n
		}
	}
	d.P50, d.P99 = h.quantile(0.5), h.quantile(0.99)
	return d
}

// quantile returns that of the recent values.
func (h *Histogram) quantile(q float64) time.Duration {
	var all uint64
	for i := range buckets {
		all += uint64(h.recent[0][i]) + uint64(h.recent[1][i])
	}
	if all == 0 {
		return 0
	}
	rank := max(uint64(math.Ceil(q*float64(all))), 1)
	for i := range buckets {
		n := uint64(h.recent[0][i]) + uint64(h.recent[1][i])
		if n >= rank {
			return time.Duration(float64(upper(i)) * math.Exp2(-0.5/perOctave))
		}
		rank -= n
	}
	return upper(buckets - 1)
}
