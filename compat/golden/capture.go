package golden

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/seed-4d73690b/rafthttp/compat/member"
	"github.com/seed-4d73690b/rafthttp/compat/traffic"
	"github.com/seed-4d73690b/rafthttp/compat/v36/drive"
)

// Versions are the releases of upstream that vectors are captured from, and the folders that hold them.
var Versions = []struct {
	Dir, Writer string
	Kind        member.Kind
}{
	{"v3.7", "etcd 3.7.3", member.Stock37},
	{"v3.6", "etcd 3.6.16", member.Stock36},
}

// Capture runs a transport of the kind and returns all vectors that it wrote. It takes about 5 seconds, most of which
// is waiting for link heartbeats.
func Capture(ctx context.Context, kind member.Kind, writer string) ([]*Vector, error) {
	steps := []func(*capture) (*Vector, error){
		(*capture).messages, (*capture).appends, (*capture).messageHeartbeats, (*capture).appendHeartbeats, (*capture).pipeline,
	}
	for _, s := range snapshots() {
		steps = append(steps, func(c *capture) (*Vector, error) { return c.snapshot(s) })
	}
	var all []*Vector
	for _, step := range steps {
		v, err := captureOne(ctx, kind, step)
		for errors.Is(err, errHeartbeat) {
			v, err = captureOne(ctx, kind, step)
		}
		if err != nil {
			return nil, err
		}
		v.Writer, v.From, v.To = writer, From, To
		all = append(all, v)
	}
	return all, nil
}

// errHeartbeat says that a link heartbeat came where none was wanted; it does not the next time.
var errHeartbeat = errors.New("a link heartbeat came between the messages")

// capture is one running transport and the peer that it has.
type capture struct {
	context.Context
	member member.Member
	peer   *peer
}

func captureOne(ctx context.Context, kind member.Kind, step func(*capture) (*Vector, error)) (*Vector, error) {
	dir, err := os.MkdirTemp("", "rafthttp-golden-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	m, err := member.Start(kind, member.Config{ID: From, Cluster: Cluster, Dir: dir, Raft: deafRaft{}})
	if err != nil {
		return nil, err
	}
	c := &capture{ctx, m, newPeer()}
	defer c.peer.Close()
	defer m.Stop()
	m.AddPeer(To, c.peer.URL)
	return step(c)
}

func (c *capture) messages() (*Vector, error) {
	v := &Vector{Name: "message", Kind: MessageStream,
		About: "every message type, usual and with every field set, then odd messages; the msgapp v2 stream was not up"}
	var sent []*raftpb.Message
	for _, m := range append(traffic.EveryMessage(From, To), traffic.Odd(From, To)...) {
		if m.GetType() != raftpb.MessageType_MsgSnap { // a stock sender posts these
			sent = append(sent, m)
		}
	}
	return v, c.stream(v, "message", sent, false)
}

func (c *capture) appends() (*Vector, error) {
	v := &Vector{Name: "msgapp", Kind: AppendStream, About: "MsgApps that continue the last one (type 1) and that do not (type 2)"}
	var sent []*raftpb.Message
	for _, a := range traffic.Appends(From, To) {
		sent = append(sent, a.Message)
	}
	return v, c.stream(v, "msgapp", sent, false)
}

func (c *capture) messageHeartbeats() (*Vector, error) {
	v := &Vector{Name: "message-heartbeat", Kind: MessageStream, About: "a message, a link heartbeat, a message"}
	beat := &raftpb.Message{Type: raftpb.MessageType_MsgHeartbeat.Enum(), From: new(uint64(From)), To: new(uint64(To)), Term: new(uint64(5))}
	return v, c.stream(v, "message", []*raftpb.Message{beat, beat}, true)
}

func (c *capture) appendHeartbeats() (*Vector, error) {
	v := &Vector{Name: "msgapp-heartbeat", Kind: AppendStream, About: "a whole message, a link heartbeat, its continuation"}
	all := traffic.Appends(From, To)
	return v, c.stream(v, "msgapp", []*raftpb.Message{all[0].Message, all[1].Message}, true)
}

// stream captures one stream while the messages are sent, one after the other; with wait, each but the first is sent
// after a link heartbeat.
func (c *capture) stream(v *Vector, name string, sent []*raftpb.Message, wait bool) error {
	resp, err := dial(c, c.member.URL(), name)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	v.Answer = identity(resp.Header)
	var raw bytes.Buffer
	in := &frames{r: io.TeeReader(resp.Body, &raw), from: From, to: To, appends: v.Kind == AppendStream}
	read := func() (*raftpb.Message, bool, error) {
		rec, m, err := in.next()
		if err != nil {
			return nil, false, err
		}
		if err := rec.setMessage(m); err != nil {
			return nil, false, err
		}
		v.Records = append(v.Records, rec)
		return m, rec.LinkHeartbeat, nil
	}
	for i, m := range sent {
		for beat := false; wait && i > 0 && !beat; {
			if _, beat, err = read(); err != nil {
				return err
			}
		}
		c.member.Send(m)
		got, beat, err := read()
		if err != nil {
			return err
		}
		if beat {
			return errHeartbeat
		}
		if !proto.Equal(traffic.Normal(got), traffic.Normal(m)) {
			return fmt.Errorf("%s, message %d: sent %v, captured %v", v.Name, i, m, got)
		}
	}
	v.Bytes = raw.Bytes()
	return nil
}

func (c *capture) pipeline() (*Vector, error) {
	v := &Vector{Name: "pipeline", Kind: Posts, About: "every message type while no stream was up, and a MsgSnap with every field set"}
	usual := traffic.EveryMessage(From, To)[:len(traffic.Types())]
	for _, m := range append(usual, traffic.Full(raftpb.MessageType_MsgSnap, From, To)) {
		c.member.Send(m)
		got, err := c.peer.next(c)
		if err != nil {
			return nil, err
		}
		v.Request = identity(got.header)
		if err := v.record(got.body, len(v.Bytes), m); err != nil {
			return nil, err
		}
		v.Bytes = append(v.Bytes, got.body...)
	}
	return v, nil
}

// record adds one protobuf message as a record, which has to mean the same as what was sent.
func (v *Vector) record(encoded []byte, offset int, sent *raftpb.Message) error {
	m := new(raftpb.Message)
	if err := proto.Unmarshal(encoded, m); err != nil {
		return err
	}
	if !proto.Equal(traffic.Normal(m), traffic.Normal(sent)) {
		return fmt.Errorf("%s: sent %v, captured %v", v.Name, sent, m)
	}
	rec := Record{Offset: offset, Size: len(encoded)}
	err := rec.setMessage(m)
	v.Records = append(v.Records, rec)
	return err
}

type snapshotCase struct {
	name, about string
	head        *raftpb.Message
	size        int64
}

func snapshots() []snapshotCase {
	return []snapshotCase{
		{"snapshot", "a usual snapshot", traffic.SnapshotMessage(From, To, 1000, 5), 3000},
		{"snapshot-no-database", "a database of no bytes", traffic.SnapshotMessage(From, To, 1001, 5), 0},
		{"snapshot-full", "every field set, a database of one byte", traffic.Full(raftpb.MessageType_MsgSnap, From, To), 1},
	}
}

func (c *capture) snapshot(s snapshotCase) (*Vector, error) {
	v := &Vector{Name: s.name, Kind: SnapshotPost, About: s.about}
	c.member.SendSnapshot(s.head, member.Source{Generated: drive.Database{Seed: 1, Size: s.size}})
	got, err := c.peer.next(c)
	if err != nil {
		return nil, err
	}
	v.Request, v.Bytes = identity(got.header), got.body
	in := &frames{r: bytes.NewReader(got.body)}
	encoded, err := in.sized()
	if err != nil {
		return nil, err
	}
	if err := v.record(encoded, 0, s.head); err != nil {
		return nil, err
	}
	v.Records[0].Size = in.size
	v.DB = &Database{Offset: in.size, Size: len(got.body) - in.size}
	return v, nil
}

// deafRaft takes everything and remembers nothing.
type deafRaft struct{}

func (deafRaft) Process(context.Context, *raftpb.Message) error { return nil }
func (deafRaft) IsIDRemoved(uint64) bool                        { return false }
func (deafRaft) ReportUnreachable(uint64)                       {}
func (deafRaft) ReportSnapshot(uint64, raft.SnapshotStatus)     {}
