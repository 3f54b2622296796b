package rafthttp_test

import (
	"bytes"
	"crypto/tls"
	"math"
	"net/http"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"golang.org/x/time/rate"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
)

// numberField is a field of Transport, or of its Observer, that is a duration, a
// size or a rate.
type numberField struct {
	name string // as ConfigError has it
	typ  reflect.Type
	of   func(tr *rafthttp.Transport) reflect.Value
}

// numberFields returns all of them, so that a new one is tested without a word.
func numberFields() (all []numberField) {
	add := func(prefix string, of reflect.Type, in func(*rafthttp.Transport) reflect.Value) {
		for f := range of.Fields() {
			number := f.Type.Kind() >= reflect.Int && f.Type.Kind() <= reflect.Float64
			if number && f.IsExported() && f.Type != reflect.TypeFor[types.ID]() {
				all = append(all, numberField{prefix + f.Name, f.Type, func(tr *rafthttp.Transport) reflect.Value {
					return in(tr).FieldByIndex(f.Index)
				}})
			}
		}
	}
	add("", reflect.TypeFor[rafthttp.Transport](), func(tr *rafthttp.Transport) reflect.Value { return reflect.ValueOf(tr).Elem() })
	add("Observer.", reflect.TypeFor[rafthttp.Observer](), func(tr *rafthttp.Transport) reflect.Value {
		if tr.Observer == nil {
			tr.Observer = &rafthttp.Observer{}
		}
		return reflect.ValueOf(tr.Observer).Elem()
	})
	return all
}

// set sets the field of a transport.
func (f numberField) set(tr *rafthttp.Transport, v float64) {
	switch field := f.of(tr); {
	case field.CanFloat():
		field.SetFloat(v)
	case v >= math.MaxInt64:
		field.SetInt(math.MaxInt64)
	default:
		field.SetInt(int64(v))
	}
}

func (f numberField) isDuration() bool { return f.typ == reflect.TypeFor[time.Duration]() }

// longest is the longest duration that a Transport takes.
const longest = 365 * 24 * time.Hour

// TestNumbersThatCannotWork: for every field, a ConfigError that names it and says
// what would.
func TestNumbersThatCannotWork(t *testing.T) {
	fields := numberFields()
	require.Greater(t, len(fields), 14)
	for _, f := range fields {
		bad := []float64{-1, math.MinInt64}
		switch {
		case f.typ == reflect.TypeFor[rate.Limit]():
			bad = append(bad, math.NaN(), math.Inf(-1))
		case f.isDuration() && f.name != "Observer.SlowProcessAfter": // which nothing is added to
			bad = append(bad, float64(longest)+1e3, math.MaxInt64/4, math.MaxInt64)
		}
		for _, v := range bad {
			tr := &rafthttp.Transport{ID: 1, Raft: &testmember.Recorder{}}
			f.set(tr, v)
			value := f.of(tr).Interface()
			err := tr.Start()
			if err == nil {
				tr.Stop()
			}
			var wrong *rafthttp.ConfigError
			require.ErrorAs(t, err, &wrong, "%s = %v", f.name, v)
			require.Equal(t, f.name, wrong.Field)
			if v == v { // NaN differs from itself
				require.Equal(t, value, wrong.Value)
			}
			require.Contains(t, wrong.Want, "0 for the default", f.name)
			if f.isDuration() && v > 0 {
				require.Contains(t, wrong.Want, "8760h", f.name)
			}
		}
	}
}

// TestLargestNumbersWork: with the largest value that Start takes for a field,
// everything works as with the default: streams, posts, snapshots, heartbeats,
// probes, checks.
func TestLargestNumbersWork(t *testing.T) {
	for _, f := range numberFields() {
		values := []float64{math.MaxInt64}
		switch {
		case f.isDuration():
			values = []float64{float64(longest)}
		case f.typ == reflect.TypeFor[rate.Limit]():
			values = []float64{math.MaxInt64, math.MaxFloat64, math.Inf(1)}
		}
		for _, v := range values {
			t.Run(f.name, func(t *testing.T) {
				bubble.Test(t, func(t *testing.T) { requireWorks(t, func(tr *rafthttp.Transport) { f.set(tr, v) }) })
			})
		}
	}
}

// requireWorks has a pair do all that members do.
func requireWorks(t *testing.T, tune func(*rafthttp.Transport)) {
	t.Helper()
	p := testmember.NewPair(t, testmember.Tuned(tune, checked), testmember.Tuned(tune, checked, testmember.Receives(testmember.SavesAll)))
	time.Sleep(10 * time.Second)
	require.Equal(t, 1, p.A.ActivePeers())
	start := time.Now()
	for i := range uint64(100) {
		p.A.Send([]*raftpb.Message{testmember.Heartbeat(2, 1, i), testmember.MsgApp(2, 1, 1+i, make([]byte, 10_000)), testmember.Message(raftpb.MsgProp, 2)})
	}
	p.A.Send([]*raftpb.Message{testmember.MsgSnap(2, 1, 1)}) // a post, of a snapshot that overtakes no append
	testmember.Within(t, time.Second, func() bool { return len(p.B.Recorder.Received()) == 301 })
	require.Zero(t, p.A.Recorder.Unreachables(2))
	require.Equal(t, []raft.SnapshotStatus{raft.SnapshotFinish}, p.A.Recorder.SnapshotReports())

	const size = 3 << 20
	reads, rest := 0, bytes.NewReader(make([]byte, size))
	m := testmember.NewSnapshot(&testmember.Database{Reader: testmember.ReaderFunc(func(p []byte) (int, error) { reads++; return rest.Read(p) })}, size)
	p.A.SendSnapshot(m)
	require.True(t, <-m.CloseNotify())
	require.Less(t, time.Since(start), 5*time.Second)
	require.Less(t, reads, 1000, "a byte at a time")
	require.Zero(t, p.A.Status().Peers[0].SendFailures+p.B.Status().Peers[0].ReceiveFailures)
}

// checked has connections checked again while they are up.
func checked(tr *rafthttp.Transport) {
	tr.VerifyPeer = func(types.ID, *tls.ConnectionState) error { return nil }
}

// TestRoundTripperDialTimeout is bounded as that of a Transport.
func TestRoundTripperDialTimeout(t *testing.T) {
	for _, d := range []time.Duration{-1, longest + 1, math.MaxInt64} {
		_, err := rafthttp.NewRoundTripper(transport.TLSInfo{}, d)
		var wrong *rafthttp.ConfigError
		require.ErrorAs(t, err, &wrong)
		require.Equal(t, "DialTimeout", wrong.Field)
		require.Equal(t, d, wrong.Value)
	}
	m := testmember.Start(t, 1, nil)
	rt, err := rafthttp.NewRoundTripper(transport.TLSInfo{}, longest)
	require.NoError(t, err)
	c := &http.Client{Transport: rt}
	defer c.CloseIdleConnections()
	resp, err := c.Get(m.URL + rafthttp.ProbingPrefix)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
}
