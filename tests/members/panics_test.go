package members_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// panicking is a Raft one of whose methods panics.
type panicking struct {
	testmember.Recorder
	in    string
	value any
}

func (p *panicking) panicIn(method string) {
	if p.in == method {
		panic(p.value)
	}
}

func (p *panicking) Process(ctx context.Context, m *raftpb.Message) error {
	p.panicIn("Process " + m.GetType().String())
	return p.Recorder.Process(ctx, m)
}

func (p *panicking) IsIDRemoved(uint64) bool { p.panicIn("IsIDRemoved"); return false }

func (p *panicking) ReportUnreachable(uint64) { p.panicIn("ReportUnreachable") }

func (p *panicking) ReportSnapshot(uint64, raft.SnapshotStatus) { p.panicIn("ReportSnapshot") }

// answering is an error of Process whose WriteTo panics.
type answering struct{ error }

func (answering) WriteTo(http.ResponseWriter) { panic("whoops") }

// panickingCore is a log that panics.
type panickingCore struct{ zapcore.Core }

func (panickingCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	return ce.AddCore(e, panickingCore{})
}
func (panickingCore) Enabled(zapcore.Level) bool                 { return true }
func (panickingCore) With([]zapcore.Field) zapcore.Core          { return panickingCore{} }
func (panickingCore) Write(zapcore.Entry, []zapcore.Field) error { panic("whoops") }

// deaths are callbacks that panic in the receiving member 1, while member 2 sends to it, and what the log says of each.
var deaths = map[string]struct {
	in    string // of panicking
	value any    // "whoops", if nil
	tune  func(*rafthttp.Transport)
	send  func(a, b *testmember.Member)
	log   string
}{
	"Process, stream": {in: "Process MsgHeartbeat", send: sendsOne(raftpb.MsgHeartbeat),
		log: `"callback": "Raft.Process", "remote-peer-id": "2", "lane": "control", "type": "MsgHeartbeat", "from": "2"`},
	"Process, msgapp stream": {in: "Process MsgApp", send: sendsOne(raftpb.MsgApp),
		log: `"callback": "Raft.Process", "remote-peer-id": "2", "lane": "append", "type": "MsgApp", "from": "2"`},
	"Process, post": {in: "Process MsgSnap", send: sendsOne(raftpb.MsgSnap),
		log: `"callback": "Raft.Process", "remote-peer-id": "2", "lane": "post", "type": "MsgSnap", "from": "2"`},
	"Process, post, ErrAbortHandler": {in: "Process MsgSnap", value: http.ErrAbortHandler, send: sendsOne(raftpb.MsgSnap),
		log: `"callback": "Raft.Process", "remote-peer-id": "2", "lane": "post", "type": "MsgSnap", "from": "2"`},
	"Process, post, an error": {in: "Process MsgSnap", value: errors.New("tocommit(100) is out of range"), send: sendsOne(raftpb.MsgSnap),
		log: `"type": "MsgSnap"`},
	"Process, snapshot": {in: "Process MsgSnap", tune: testmember.Receives(testmember.SavesAll), send: sendsSnapshot,
		log: `"callback": "Raft.Process", "remote-peer-id": "2", "lane": "snapshot", "type": "MsgSnap", "from": "2"`},
	"IsIDRemoved": {in: "IsIDRemoved", send: func(_, _ *testmember.Member) {}, log: `"callback": "Raft.IsIDRemoved", "remote-peer-id": "2"`},
	"ReportUnreachable": {in: "ReportUnreachable", send: func(_, b *testmember.Member) { b.Stop() },
		log: `"callback": "Raft.ReportUnreachable", "remote-peer-id": "2"`},
	"ReportSnapshot": {in: "ReportSnapshot", send: func(a, _ *testmember.Member) {
		a.Send([]*raftpb.Message{testmember.Message(raftpb.MsgSnap, 2)})
	}, log: `"callback": "Raft.ReportSnapshot", "remote-peer-id": "2"`},
	"WriteTo": {
		tune: func(tr *rafthttp.Transport) {
			tr.Raft = &testmember.Recorder{OnProcess: func(context.Context, *raftpb.Message) error { return answering{io.EOF} }}
		},
		send: sendsOne(raftpb.MsgSnap), log: `"callback": "WriteTo of an error of Raft.Process", "remote-peer-id": "2"`,
	},
	"SaveDBFrom": {
		tune: testmember.Receives(testmember.Saver(func(io.Reader, uint64) (int64, error) { panic("whoops") })), send: sendsSnapshot,
		log: `"callback": "Snapshotter.SaveDBFrom", "remote-peer-id": "2", "lane": "snapshot"`,
	},
	"PartialDB": {
		tune: testmember.Receives(panickingStore{}), send: sendsSnapshot, log: `"callback": "Snapshotter.PartialDB", "remote-peer-id": "2"`,
	},
	"PrepareDB": {
		tune: testmember.Receives(panickingStore{preparing: true}), send: sendsSnapshot,
		log: `"callback": "Snapshotter.PrepareDB", "remote-peer-id": "2", "lane": "snapshot"`,
	},
	"DiscardDB": {
		tune: testmember.Tuned(testmember.Receives(panickingStore{discarding: true}), func(tr *rafthttp.Transport) {
			tr.Raft = &testmember.Recorder{OnProcess: func(context.Context, *raftpb.Message) error { return io.EOF }}
		}),
		send: sendsSnapshot, log: `"callback": "Snapshotter.DiscardDB", "remote-peer-id": "2"`,
	},
	"VerifyPeer, of a request": {
		tune: func(tr *rafthttp.Transport) {
			tr.DialContext = func(context.Context, string, string) (net.Conn, error) { return nil, io.EOF }
			tr.VerifyPeer = func(types.ID, *tls.ConnectionState) error { panic("whoops") }
		},
		send: func(_, _ *testmember.Member) {}, log: `"callback": "VerifyPeer", "remote-peer-id": "2"`,
	},
	"VerifyPeer, of a dial": {
		tune: func(tr *rafthttp.Transport) {
			tr.VerifyPeer = func(types.ID, *tls.ConnectionState) error { panic("whoops") }
		},
		send: func(_, _ *testmember.Member) {}, log: `"callback": "VerifyPeer", "remote-peer-id": "2"`,
	},
	"DialContext": {
		tune: func(tr *rafthttp.Transport) {
			tr.DialContext = func(context.Context, string, string) (net.Conn, error) { panic("whoops") }
		},
		send: func(_, _ *testmember.Member) {}, log: `"callback": "DialContext"`,
	},
	"Logger": {
		tune: func(tr *rafthttp.Transport) { tr.Logger = zap.New(panickingCore{}) }, send: func(_, _ *testmember.Member) {},
	},
	"Process, while the log stands still": {in: "Process MsgHeartbeat", send: sendsOne(raftpb.MsgHeartbeat),
		tune: func(tr *rafthttp.Transport) {
			at := testmember.NewBarrier()
			at.Close()
			tr.Logger = zap.New(testmember.BlockingCore{LevelEnabler: zap.InfoLevel, At: at})
		}},
	"TLSInfo.HandshakeFailure": {send: failsHandshake, log: `"callback": "TLSInfo.HandshakeFailure"`},
	"Observer.PeerState": {
		tune: hooked(rafthttp.Observer{PeerState: func(types.ID, bool, error) { panic("whoops") }}),
		send: func(_, _ *testmember.Member) {}, log: `"callback": "Observer.PeerState", "remote-peer-id": "2"`,
	},
	"Observer.Sent": {
		tune: hooked(rafthttp.Observer{Sent: func(types.ID, string, int, int64, time.Duration) { panic("whoops") }}),
		send: func(_, _ *testmember.Member) {}, log: `"callback": "Observer.Sent", "remote-peer-id": "2"`,
	},
	"Observer.Received": {
		tune: hooked(rafthttp.Observer{Received: func(types.ID, string, int, int64) { panic("whoops") }}),
		send: sendsOne(raftpb.MsgSnap), log: `"callback": "Observer.Received", "remote-peer-id": "2"`,
	},
	"Observer.Dropped": {
		tune: hooked(rafthttp.Observer{Dropped: func(types.ID, string, int, error) { panic("whoops") }}),
		send: func(a, _ *testmember.Member) { a.CutPeer(2); a.Send(testmember.Heartbeats(1, 2, 1)) },
		log:  `"callback": "Observer.Dropped", "remote-peer-id": "2"`,
	},
	"Observer.SlowProcess": {
		tune: hooked(rafthttp.Observer{SlowProcessAfter: 1, SlowProcess: func(types.ID, string, raftpb.MessageType, time.Duration) {
			panic("whoops")
		}}),
		send: sendsOne(raftpb.MsgSnap), log: `"callback": "Observer.SlowProcess", "remote-peer-id": "2"`,
	},
	"Observer.Probed": {
		tune: testmember.Tuned(hooked(rafthttp.Observer{Probed: func(types.ID, time.Duration, time.Duration, error) { panic("whoops") }}),
			func(tr *rafthttp.Transport) { tr.ReadTimeout = 20 * time.Millisecond }),
		send: func(_, _ *testmember.Member) {}, log: `"callback": "Observer.Probed", "remote-peer-id": "2"`,
	},
	"Observer.SnapshotSent": {
		tune: hooked(rafthttp.Observer{SnapshotSent: func(types.ID, uint64, int64, time.Duration, error) { panic("whoops") }}),
		send: func(a, _ *testmember.Member) { a.SendSnapshot(testmember.SnapshotTo(2)) }, log: `"callback": "Observer.SnapshotSent", "remote-peer-id": "2"`,
	},
	"Observer.SnapshotReceived": {
		tune: testmember.Tuned(testmember.Receives(testmember.SavesAll),
			hooked(rafthttp.Observer{SnapshotReceived: func(types.ID, uint64, int64, time.Duration, error) { panic("whoops") }})),
		send: sendsSnapshot, log: `"callback": "Observer.SnapshotReceived", "remote-peer-id": "2"`,
	},
	"Observer.SnapshotProgress": {
		tune: testmember.Tuned(testmember.Receives(testmember.SavesAll), hooked(rafthttp.Observer{SnapshotProgress: func(rafthttp.SnapshotStatus) { panic("whoops") }}),
			func(tr *rafthttp.Transport) { tr.ReadTimeout = 20 * time.Millisecond }),
		send: func(_, b *testmember.Member) {
			slow := &testmember.Database{Reader: testmember.ReaderFunc(func(p []byte) (int, error) {
				<-time.After(time.Millisecond)
				return min(len(p), 32<<10), nil
			})}
			b.SendSnapshot(snap.NewMessage(testmember.MsgSnap(1, 2, 7), slow, 64<<20))
		},
		log: `"callback": "Observer.SnapshotProgress", "remote-peer-id": "2"`,
	},
}

func hooked(o rafthttp.Observer) func(*rafthttp.Transport) {
	return func(tr *rafthttp.Transport) { tr.Observer = &o }
}

func sendsOne(typ raftpb.MessageType) func(a, b *testmember.Member) {
	return func(_, b *testmember.Member) {
		m := testmember.Message(typ, 1)
		m.From = new(uint64(2))
		b.Send([]*raftpb.Message{m})
	}
}

func sendsSnapshot(_, b *testmember.Member) {
	b.SendSnapshot(snap.NewMessage(testmember.MsgSnap(1, 2, 7), &testmember.Database{Reader: bytes.NewReader(make([]byte, 1000))}, 1000))
}

// failsHandshake has a client of a member fail, whose HandshakeFailure panics.
func failsHandshake(a, _ *testmember.Member) {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	info, err := transport.SelfCert(zap.NewNop(), dir, []string{"127.0.0.1:0"}, 1)
	if err != nil {
		panic(err)
	}
	encoder := zapcore.NewConsoleEncoder(zapcore.EncoderConfig{MessageKey: "m"})
	info.Logger = zap.New(zapcore.NewCore(encoder, zapcore.AddSync(os.Stderr), zap.ErrorLevel))
	info.HandshakeFailure = func(*tls.Conn, error) { panic("whoops") }
	ln, err := rafthttp.NewListener(url.URL{Scheme: "https", Host: "127.0.0.1:0"}, &info)
	if err != nil {
		panic(err)
	}
	go func() { _ = rafthttp.NewServer(a.Handler()).Serve(ln) }()
	c, err := tls.Dial("tcp", ln.Addr().String(), &tls.Config{})
	if err == nil {
		c.Close()
		panic(errors.New("the handshake succeeded"))
	}
}

// TestPanicsEndTheProcess: a panic of any callback ends the process, whichever way the message came, with what it panicked with
// and where, and after a line of the log that says for whom.
func TestPanicsEndTheProcess(t *testing.T) {
	for name, death := range deaths {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(os.Args[0], "-test.run=^TestPanicHelper$", "-test.timeout=20s")
			cmd.Env = append(os.Environ(), "PANIC_IN="+name)
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			require.ErrorAs(t, err, &exit, "%s", out)
			require.Equal(t, 2, exit.ExitCode(), "%s", out)
			text, value := string(out), "whoops"
			if death.value != nil {
				value = death.value.(error).Error()
			}
			require.Contains(t, text, "panic: "+value)
			require.NotContains(t, text, "test timed out")
			require.Contains(t, text, "panics_test.go", "where")
			if death.log != "" {
				require.Contains(t, text, "a callback panicked, which ends the process")
				require.Contains(t, text, death.log)
				line, _, _ := strings.Cut(text[strings.Index(text, "a callback panicked"):], "\n")
				require.Contains(t, line, `"panic": "`+value)
			}
		})
	}
}

// TestPanicHelper is the process that ends.
func TestPanicHelper(t *testing.T) {
	death, ok := deaths[os.Getenv("PANIC_IN")]
	if !ok {
		t.Skip("it is run by TestPanicsEndTheProcess")
	}
	a := testmember.Start(t, 1, func(tr *rafthttp.Transport) {
		if death.in != "" {
			p := &panicking{in: death.in, value: death.value}
			if p.value == nil {
				p.value = "whoops"
			}
			tr.Raft = p
		}
		encoder := zapcore.NewConsoleEncoder(zapcore.EncoderConfig{MessageKey: "m"})
		tr.Logger = zap.New(zapcore.NewCore(encoder, zapcore.AddSync(os.Stderr), zap.ErrorLevel))
		if death.tune != nil {
			death.tune(tr)
		}
	})
	b := testmember.Start(t, 2, testmember.Receives(panickingStoreOfNone{}))
	a.AddPeer(2, []string{b.URL})
	b.AddPeer(1, []string{a.URL})
	testmember.WaitStreams(t, b, 1) // some end before
	death.send(a, b)
	select {}
}

// panickingStore is a Snapshotter with all optional methods. PartialDB panics, unless another method is chosen.
type panickingStore struct{ preparing, discarding bool }

func (s panickingStore) SaveDBFrom(r io.Reader, _ uint64) (int64, error) {
	return io.Copy(io.Discard, r)
}

func (s panickingStore) PartialDB(snap.Transfer) (int64, uint32) {
	if !s.preparing && !s.discarding {
		panic("whoops")
	}
	return 0, 0
}

func (s panickingStore) ResumeDBFrom(r io.Reader, _ snap.Transfer, _ int64, _ func() (uint32, error)) (int64, error) {
	return io.Copy(io.Discard, r)
}

func (s panickingStore) PrepareDB(context.Context, *raftpb.Message, int64) (snap.Saver, error) {
	if s.preparing {
		panic("whoops")
	}
	return nil, nil
}

func (s panickingStore) DiscardDB(uint64, error) {
	if s.discarding {
		panic("whoops")
	}
}

// panickingStoreOfNone is a ResumingSnapshotter with nothing, so that member 2 resumes, too.
type panickingStoreOfNone struct{ panickingStore }

func (panickingStoreOfNone) PartialDB(snap.Transfer) (int64, uint32) { return 0, 0 }
