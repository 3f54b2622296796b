package delivery_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/seed-4d73690b/rafthttp/internal/testmember"
)

// fill sets every field of m, and of the messages in it down to depth, to
// something that is not its zero value.
func fill(rng *rand.Rand, m protoreflect.Message, depth int) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		isMessage := fd.Kind() == protoreflect.MessageKind
		switch {
		case isMessage && depth == 0:
		case fd.IsList():
			list := m.Mutable(fd).List()
			for range 3 {
				v := list.NewElement()
				if isMessage {
					fill(rng, v.Message(), depth-1)
				} else {
					v = scalar(rng, fd)
				}
				list.Append(v)
			}
		case isMessage:
			fill(rng, m.Mutable(fd).Message(), depth-1)
		default:
			m.Set(fd, scalar(rng, fd))
		}
	}
}

func scalar(rng *rand.Rand, fd protoreflect.FieldDescriptor) protoreflect.Value {
	switch fd.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.EnumKind:
		values := fd.Enum().Values()
		return protoreflect.ValueOfEnum(values.Get(rng.IntN(values.Len())).Number())
	case protoreflect.BytesKind:
		from, n := rng.IntN(9000), 1+rng.IntN(9000)
		return protoreflect.ValueOfBytes(slices.Clone(random()[from : from+n]))
	default:
		return protoreflect.ValueOfUint64(1 + rng.Uint64()>>rng.UintN(63))
	}
}

var random = sync.OnceValue(func() []byte {
	b := make([]byte, 18000)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	return b
})

// filledMessages returns messages to member 2: of each type that is taken over the
// network with all fields set, and for each field one that has nothing else.
func filledMessages() map[string]*raftpb.Message {
	rng := rand.New(rand.NewPCG(1, 2))
	all := map[string]*raftpb.Message{}
	for number, name := range raftpb.MessageType_name {
		if raftpb.MessageType(number) == raftpb.MsgForgetLeader {
			continue // which no member may send
		}
		m := &raftpb.Message{}
		fill(rng, m.ProtoReflect(), 4)
		m.Type, m.To, m.From = raftpb.MessageType(number).Enum(), new(uint64(2)), new(uint64(1))
		all[name+" with all fields"] = m
		all[name+" with nothing"] = &raftpb.Message{Type: m.Type, To: m.To, From: m.From}
	}
	full := &raftpb.Message{}
	fill(rng, full.ProtoReflect(), 4)
	fields := full.ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		m := &raftpb.Message{}
		m.ProtoReflect().Set(fields.Get(i), full.ProtoReflect().Get(fields.Get(i)))
		m.To = new(uint64(2))
		if m.Type == nil {
			m.Type = raftpb.MsgProp.Enum()
		}
		all[fmt.Sprintf("%s alone", fields.Get(i).Name())] = m
	}
	// On msgapp v2 an append that continues at (0, 0) has its scalars always.
	bare := all["MsgApp with nothing"]
	bare.Term, bare.LogTerm, bare.Index, bare.Commit = new(uint64(0)), new(uint64(0)), new(uint64(0)), new(uint64(0))
	return all
}

func TestEveryTypeAndFieldArrives(t *testing.T) {
	require.Greater(t, len(raftpb.MessageType_name), 20)
	for _, way := range []string{"streams", "pipeline", "remote"} {
		t.Run(way, func(t *testing.T) {
			a, b := testmember.Start(t, 1, nil), testmember.Start(t, 2, nil)
			switch way {
			case "streams":
				testmember.Connect(t, a, b)
			case "pipeline":
				a.AddPeer(2, []string{b.URL})
			case "remote":
				a.AddRemote(2, []string{b.URL})
			}
			all := filledMessages()
			names := make([]string, 0, len(all))
			for name := range all {
				names = append(names, name)
			}
			slices.Sort(names)
			snapshots := 0
			for i, name := range names {
				want := proto.CloneOf(all[name])
				a.Send([]*raftpb.Message{all[name]})
				testmember.Eventually(t, func() bool { return len(b.Recorder.Received()) == i+1 })
				got := b.Recorder.Received()[i]
				require.True(t, proto.Equal(want, got), "%s: sent %v, received %v", name, want, got)
				if want.GetType() == raftpb.MsgSnap {
					snapshots++
				}
			}
			require.GreaterOrEqual(t, snapshots, 2)
			testmember.Eventually(t, func() bool { return len(a.Recorder.SnapshotReports()) == snapshots })
			for _, status := range a.Recorder.SnapshotReports() {
				require.Equal(t, raft.SnapshotFinish, status)
			}
			if way == "streams" {
				testmember.Eventually(t, func() bool { return testmember.LaneOf(a, 2, "pipeline").Messages == uint64(snapshots) })
			}
			require.Zero(t, a.Recorder.Unreachables(2))
		})
	}
}

// TestAppendsContinueAcrossTerms sends appends of which most go without their
// head on msgapp v2: gaps, repetitions, term changes and empty ones in between.
func TestAppendsContinueAcrossTerms(t *testing.T) {
	a, b := testmember.Start(t, 1, nil), testmember.Start(t, 2, nil)
	testmember.Connect(t, a, b)
	rng := rand.New(rand.NewPCG(3, 4))
	var sent []*raftpb.Message
	index, term, logTerm := uint64(0), uint64(1), uint64(1)
	for range 3000 {
		switch rng.IntN(10) {
		case 0:
			index += uint64(rng.IntN(5))
		case 1:
			index -= min(index, uint64(rng.IntN(5)))
			term++ // in the same term it would be a copy of what is under way
		case 2:
			term++
		case 3:
			logTerm = term
		}
		m := &raftpb.Message{
			Type: raftpb.MsgApp.Enum(), To: new(uint64(2)), From: new(uint64(1)), Term: new(term), LogTerm: new(logTerm),
			Index: new(index), Commit: new(index),
		}
		for range rng.IntN(4) {
			index++
			e := &raftpb.Entry{Term: new(term), Index: new(index)}
			fill(rng, e.ProtoReflect(), 1)
			e.Index = new(index)
			m.Entries = append(m.Entries, e)
		}
		sent = append(sent, m)
		a.Send([]*raftpb.Message{m})
	}
	testmember.Eventually(t, func() bool { return len(b.Recorder.Received()) == len(sent) })
	for i, got := range b.Recorder.Received() {
		require.True(t, proto.Equal(sent[i], got), "append %d: sent %v, received %v", i, sent[i], got)
	}
	require.EqualValues(t, len(sent), testmember.LaneOf(a, 2, "msgapp").Messages)
}
