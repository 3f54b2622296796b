package observe_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"expvar"
	"io"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/observe"
)

// full is an Observer whose every hook, those of later versions included, says
// its name.
func full(says func(string)) *rafthttp.Observer {
	o := &rafthttp.Observer{}
	v := reflect.ValueOf(o).Elem()
	for i := range v.NumField() {
		if f := v.Field(i); f.Kind() == reflect.Func {
			name := v.Type().Field(i).Name
			f.Set(reflect.MakeFunc(f.Type(), func([]reflect.Value) []reflect.Value {
				says(name)
				return nil
			}))
		}
	}
	return o
}

// callAll calls every hook that is not nil with values that are not zero, and
// returns the names of all hooks there are.
func callAll(t *testing.T, o *rafthttp.Observer) (all []string) {
	t.Helper()
	v := reflect.ValueOf(o).Elem()
	for i := range v.NumField() {
		f := v.Field(i)
		if f.Kind() != reflect.Func {
			continue
		}
		all = append(all, v.Type().Field(i).Name)
		if f.IsNil() {
			continue
		}
		var args []reflect.Value
		for j := range f.Type().NumIn() {
			in := f.Type().In(j)
			switch in.Kind() {
			case reflect.Interface:
				args = append(args, reflect.ValueOf(io.ErrUnexpectedEOF))
			case reflect.String:
				args = append(args, reflect.ValueOf("msgapp"))
			case reflect.Bool:
				args = append(args, reflect.ValueOf(true))
			case reflect.Struct:
				args = append(args, reflect.Zero(in))
			default:
				args = append(args, reflect.ValueOf(int64(time.Hour)).Convert(in))
			}
		}
		f.Call(args)
	}
	return all
}

// TestChainHasAllHooks fails when Observer has a hook that Chain forgets.
func TestChainHasAllHooks(t *testing.T) {
	var said []string
	says := func(who string) func(string) { return func(hook string) { said = append(said, who+hook) } }
	hooks := callAll(t, observe.Chain(nil, full(says("a")), nil, &rafthttp.Observer{}, full(says("b")), full(says("c"))))
	require.NotEmpty(t, hooks)
	var want []string
	for _, h := range hooks {
		want = append(want, "a"+h, "b"+h, "c"+h)
	}
	require.Equal(t, want, said, "each, in order")

	said = nil
	callAll(t, observe.Chain(&rafthttp.Observer{}, full(says("a"))))
	require.Len(t, said, len(hooks))
}

// TestChainOfNothing: what nobody asks for stays nil, and costs nothing.
func TestChainOfNothing(t *testing.T) {
	for _, o := range []*rafthttp.Observer{observe.Chain(), observe.Chain(nil, &rafthttp.Observer{})} {
		v := reflect.ValueOf(o).Elem()
		for i := range v.NumField() {
			require.True(t, v.Field(i).IsZero(), v.Type().Field(i).Name)
		}
	}
}

func TestChainKeepsThresholds(t *testing.T) {
	var told []string
	slow := func(name string, after time.Duration) *rafthttp.Observer {
		return &rafthttp.Observer{SlowProcessAfter: after, SlowProcess: func(types.ID, string, raftpb.MessageType, time.Duration) { told = append(told, name) }}
	}
	c := observe.Chain(slow("second", time.Second), slow("default", 0), slow("minute", time.Minute), &rafthttp.Observer{SlowProcessAfter: 1})
	require.Equal(t, rafthttp.DefaultSlowProcess, c.SlowProcessAfter)
	for _, tt := range []struct {
		took time.Duration
		want []string
	}{
		{rafthttp.DefaultSlowProcess, []string{"default"}},
		{time.Second, []string{"second", "default"}},
		{time.Hour, []string{"second", "default", "minute"}},
	} {
		told = nil
		c.SlowProcess(1, "append", raftpb.MsgApp, tt.took)
		require.Equal(t, tt.want, told)
	}
}

func TestCounters(t *testing.T) {
	m := new(expvar.Map)
	o := observe.Counters(m)
	o.PeerState(2, true, nil)
	o.PeerState(2, false, io.EOF)
	o.PeerState(2, true, nil)
	o.Sent(2, "msgapp", 3, 100, time.Second)
	o.Sent(3, "message", 0, 9, time.Second)
	o.Received(2, "control", 5, 1)
	o.Dropped(2, "msgapp", 7, rafthttp.ErrQueueFull)
	o.Dropped(2, "msgapp", 1, io.EOF)
	o.SlowProcess(2, "append", raftpb.MsgApp, time.Second)
	o.SnapshotSent(2, 1, 1, 1, nil)
	o.SnapshotReceived(2, 1, 1, 1, io.EOF)
	observe.Counters(m).Received(2, "control", 5, 1) // another transport
	require.JSONEq(t, `{
		"peers_activated": 2, "peers_deactivated": 1,
		"sent_messages": 3, "sent_bytes": 109, "sent_batches": 2, "received_messages": 10, "received_batches": 2,
		"dropped_queue_full": 7, "dropped_disconnected": 1, "dropped_refused": 0, "dropped_paused": 0, "dropped_ended": 0, "dropped_memory_limit": 0, "dropped_too_large": 0, "dropped_local": 0,
		"slow_process": 1,
		"snapshots_sent": 1, "snapshots_sent_failed": 0, "snapshots_received": 0, "snapshots_received_failed": 1
	}`, m.String())
	require.Zero(t, testing.AllocsPerRun(100, func() {
		o.Sent(2, "msgapp", 3, 100, time.Second)
		o.Received(2, "control", 5, 1)
		o.Dropped(2, "msgapp", 7, rafthttp.ErrQueueFull)
	}))
}

func TestStatus(t *testing.T) {
	tr := &rafthttp.Transport{ID: 7}
	var st rafthttp.Status
	require.NoError(t, json.Unmarshal([]byte(observe.Status(tr).String()), &st))
	require.Zero(t, st)
}

func lines(b *bytes.Buffer) []string {
	if b.Len() == 0 {
		return nil
	}
	all := strings.Split(strings.TrimSpace(b.String()), "\n")
	b.Reset()
	return all
}

func textHandler(w io.Writer, l slog.Level) slog.Handler {
	return slog.NewTextHandler(w, &slog.HandlerOptions{Level: l, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})
}

func TestLog(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		o := observe.Log(slog.New(textHandler(&out, slog.LevelDebug)))
		o.PeerState(2, true, nil)
		o.PeerState(2, false, io.EOF)
		o.SnapshotSent(2, 9, 100, time.Second, nil)
		o.SnapshotReceived(2, 9, 50, time.Second, errors.New("x y"))
		require.Equal(t, []string{
			`level=INFO msg="peer became active" peer=2`,
			`level=WARN msg="peer became inactive" peer=2 error=EOF`,
			`level=INFO msg="sent a database snapshot" peer=2 index=9 bytes=100 took=1s`,
			`level=WARN msg="failed to receive a database snapshot" peer=2 index=9 bytes=50 took=1s error="x y"`,
		}, lines(&out))

		for range 1000 { // a flood is a line a minute, with its size
			o.Dropped(2, "msgapp", 2, rafthttp.ErrQueueFull)
		}
		o.Dropped(2, "message", 1, rafthttp.ErrQueueFull)
		time.Sleep(time.Minute)
		o.Dropped(2, "msgapp", 2, rafthttp.ErrQueueFull)
		require.Equal(t, []string{
			`level=WARN msg="dropped messages" peer=2 lane=msgapp messages=2 reason=queue_full error="rafthttp: queue is full"`,
			`level=WARN msg="dropped messages" peer=2 lane=message messages=1 reason=queue_full error="rafthttp: queue is full"`,
			`level=WARN msg="dropped messages" peer=2 lane=msgapp messages=2000 reason=queue_full error="rafthttp: queue is full"`,
		}, lines(&out))

		for range 10 {
			o.SlowProcess(2, "append", raftpb.MsgApp, time.Second)
			o.Probed(2, 0, 0, io.EOF)
			o.Probed(2, time.Millisecond, 0, nil)
		}
		require.Equal(t, []string{
			`level=WARN msg="Process was slow" peer=2 lane=append times=1 type=MsgApp took=1s`,
			`level=DEBUG msg="failed to probe a peer" peer=2 times=1 error=EOF`,
		}, lines(&out))
	})
}

// TestLogIsBounded: peers that come and go do not pile up.
func TestLogIsBounded(t *testing.T) {
	var out bytes.Buffer
	o := observe.Log(slog.New(textHandler(&out, slog.LevelInfo)))
	for id := range types.ID(3000) {
		o.Dropped(id, "msgapp", 1, io.EOF)
	}
	require.Len(t, lines(&out), 3000)
	o.Dropped(0, "msgapp", 1, io.EOF) // forgotten long ago
	require.Len(t, lines(&out), 1)
	o.Dropped(2999, "msgapp", 1, io.EOF)
	require.Empty(t, lines(&out))
}

func TestZap(t *testing.T) {
	var out bytes.Buffer
	l := observe.Zap(textHandler(&out, slog.LevelInfo)).Named("transport").With(zap.String("local", "1"))
	l.Debug("not this")
	l.Info("hello", zap.Duration("took", time.Second), zap.Error(io.EOF), zap.Uint64("index", 7), zap.Strings("urls", []string{"a", "b"}))
	l.Warn("watch out", zap.Namespace("of"), zap.Stringer("id", types.ID(255)))
	l.Error("broken", zap.Inline(zap.DictObject(zap.Int("n", 1))))
	require.Equal(t, []string{
		`level=INFO msg=hello local=1 logger=transport took=1s error=EOF index=7 urls="[a b]"`,
		`level=WARN msg="watch out" local=1 logger=transport of.id=ff`,
		`level=ERROR msg=broken local=1 logger=transport n=1`,
	}, lines(&out))
	require.NoError(t, l.Sync())
}

// TestOfATransport: what a real Transport logs arrives.
func TestOfATransport(t *testing.T) {
	var out bytes.Buffer
	tr := &rafthttp.Transport{ID: 1, Raft: noRaft{}, Logger: observe.Zap(textHandler(&out, slog.LevelInfo))}
	require.NoError(t, tr.Start())
	tr.AddPeer(2, []string{"http://127.0.0.1:1"})
	tr.Stop()
	require.True(t, slices.ContainsFunc(lines(&out), func(l string) bool {
		return strings.Contains(l, `msg="added a peer" local-member-id=1 remote-peer-id=2`)
	}))
}
