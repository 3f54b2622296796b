// Package traffic makes the messages that the tests of this module send and the golden vectors hold.
package traffic

import (
	"math"
	"math/rand/v2"
	"slices"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Types returns all message types of raft, in ascending order.
func Types() []raftpb.MessageType {
	var all []raftpb.MessageType
	for n := range raftpb.MessageType_name {
		all = append(all, raftpb.MessageType(n))
	}
	slices.Sort(all)
	return all
}

// EveryMessage returns messages of every type: a usual one of each type, then one of each type with every field set.
func EveryMessage(from, to uint64) []*raftpb.Message {
	var all []*raftpb.Message
	for i, typ := range Types() {
		m := &raftpb.Message{
			Type: typ.Enum(), From: &from, To: &to, Term: new(uint64(5)), LogTerm: new(uint64(4)),
			Index: new(uint64(100 + i)), Commit: new(uint64(90 + i)),
		}
		switch typ {
		case raftpb.MessageType_MsgApp, raftpb.MessageType_MsgProp:
			m.Entries = Entries(5, m.GetIndex()+1, 0, 1, 1024)
		case raftpb.MessageType_MsgSnap:
			m.Snapshot = Snapshot(m.GetIndex(), 5)
		}
		all = append(all, m)
	}
	for _, typ := range Types() {
		all = append(all, Full(typ, from, to))
	}
	return all
}

// TakenByOurs returns the messages but those that ours refuses, from whomever they are: MsgForgetLeader is for an
// application to give to its own raft, and raft would step one from another member.
func TakenByOurs(all []*raftpb.Message) []*raftpb.Message {
	return slices.DeleteFunc(slices.Clone(all), func(m *raftpb.Message) bool {
		return m.GetType() == raftpb.MessageType_MsgForgetLeader
	})
}

// Odd returns messages that no raft node sends, and that a transport carries all the same: explicit zeros, the largest
// numbers, empty sub-messages. None is a MsgApp or a MsgSnap, which have ways of their own.
func Odd(from, to uint64) []*raftpb.Message {
	resp := raftpb.MessageType_MsgAppResp
	return []*raftpb.Message{
		{Type: resp.Enum(), From: &from, To: &to},
		{Type: resp.Enum(), From: &from, To: &to, Term: new(uint64(0)), LogTerm: new(uint64(0)), Index: new(uint64(0)),
			Commit: new(uint64(0)), Vote: new(uint64(0)), Reject: new(false), RejectHint: new(uint64(0))},
		{Type: resp.Enum(), From: &from, To: &to, Term: max64(), LogTerm: max64(), Index: max64(),
			Commit: max64(), Vote: max64(), Reject: new(true), RejectHint: max64()},
		{Type: resp.Enum(), From: &from, To: &to, Context: []byte{0, 0xff, 0x80}, Snapshot: &raftpb.Snapshot{},
			Entries: []*raftpb.Entry{{}, {Type: raftpb.EntryType_EntryConfChangeV2.Enum()}}},
		{Type: resp.Enum(), From: &from, To: &to, Responses: []*raftpb.Message{
			{}, {Type: resp.Enum(), Responses: []*raftpb.Message{Full(resp, to, from)}},
		}},
	}
}

func max64() *uint64 { return new(uint64(math.MaxUint64)) }

// Full returns a message of the type with every field set, to values that differ from each other.
func Full(typ raftpb.MessageType, from, to uint64) *raftpb.Message {
	m := new(raftpb.Message)
	n := uint64(1000)
	fill(m.ProtoReflect(), &n, 1)
	m.Type, m.From, m.To = typ.Enum(), &from, &to
	for _, r := range m.Responses {
		r.Type = raftpb.MessageType_MsgStorageApplyResp.Enum()
	}
	return m
}

// fill sets every field of m; a message within itself is set down to the depth.
func fill(m protoreflect.Message, n *uint64, depth int) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if f.Message() != nil && f.Message() == m.Descriptor() && depth == 0 {
			continue
		}
		if !f.IsList() {
			m.Set(f, value(m.NewField(f), f, n, depth))
			continue
		}
		list := m.Mutable(f).List()
		for range 2 {
			var element protoreflect.Value
			if f.Message() != nil {
				element = list.NewElement()
			}
			list.Append(value(element, f, n, depth))
		}
	}
}

func value(empty protoreflect.Value, f protoreflect.FieldDescriptor, n *uint64, depth int) protoreflect.Value {
	*n += 77
	switch f.Kind() {
	case protoreflect.MessageKind:
		if f.Message() == f.Parent() {
			depth--
		}
		fill(empty.Message(), n, depth)
		return empty
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte{byte(*n), byte(*n >> 8), 0, 0xff})
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.EnumKind:
		values := f.Enum().Values()
		return protoreflect.ValueOfEnum(values.Get(values.Len() - 1).Number())
	default:
		return protoreflect.ValueOfUint64(*n)
	}
}

// Entries returns entries of the term, from index on, one of each size in bytes.
func Entries(term, index uint64, sizes ...int) []*raftpb.Entry {
	var entries []*raftpb.Entry
	for i, size := range sizes {
		e := &raftpb.Entry{Term: new(term), Index: new(index + uint64(i))}
		if size > 0 {
			e.Data = Data(index+uint64(i), size)
		}
		entries = append(entries, e)
	}
	return entries
}

// Data returns size bytes that follow from seed.
func Data(seed uint64, size int) []byte {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)}).Read(b)
	return b
}

// ConfChanges returns one entry of each kind of configuration change, from index on.
func ConfChanges(term, index uint64) []*raftpb.Entry {
	v1 := &raftpb.ConfChange{Type: raftpb.ConfChangeType_ConfChangeAddNode.Enum(), NodeId: new(uint64(3)), Context: []byte("url")}
	v2 := &raftpb.ConfChangeV2{Changes: []*raftpb.ConfChangeSingle{
		{Type: raftpb.ConfChangeType_ConfChangeAddLearnerNode.Enum(), NodeId: new(uint64(4))},
		{Type: raftpb.ConfChangeType_ConfChangeRemoveNode.Enum(), NodeId: new(uint64(2))},
	}}
	var entries []*raftpb.Entry
	for i, cc := range []raftpb.ConfChangeI{v1, v2} {
		typ, data, err := raftpb.MarshalConfChange(cc)
		if err != nil {
			panic(err)
		}
		entries = append(entries, &raftpb.Entry{Type: typ.Enum(), Term: new(term), Index: new(index + uint64(i)), Data: data})
	}
	return entries
}

// Snapshot returns the head of a snapshot without its database.
func Snapshot(index, term uint64) *raftpb.Snapshot {
	return &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
		Index: new(index), Term: new(term), ConfState: &raftpb.ConfState{Voters: []uint64{1, 2}, Learners: []uint64{3}, AutoLeave: new(false)},
	}}
}

// SnapshotMessage returns a MsgSnap as raft sends it.
func SnapshotMessage(from, to, index, term uint64) *raftpb.Message {
	return &raftpb.Message{Type: raftpb.MessageType_MsgSnap.Enum(), From: &from, To: &to, Term: &term, Snapshot: Snapshot(index, term)}
}

// Lane is what keeps messages in order: the way they go, and the way they are handed to raft. Ours has
// all of these; upstream hands appends and others over on one.
func Lane(m *raftpb.Message) string {
	switch m.GetType() {
	case raftpb.MessageType_MsgApp:
		return "append"
	case raftpb.MessageType_MsgProp:
		return "proposal"
	case raftpb.MessageType_MsgSnap:
		return "snapshot"
	default:
		return "control"
	}
}

// Normal returns m as etcd 3.6 cannot but write it: a scalar that is zero is set no differently from one that is not
// set, and an empty sub-message is none. Two messages mean the same to raft if their normal forms are equal.
func Normal(m *raftpb.Message) *raftpb.Message {
	n := proto.CloneOf(m)
	normalize(n.ProtoReflect())
	return n
}

func normalize(m protoreflect.Message) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsList() && f.Message() != nil:
			for i := range v.List().Len() {
				normalize(v.List().Get(i).Message())
			}
		case f.IsList():
		case f.Message() != nil:
			normalize(v.Message())
			if proto.Size(v.Message().Interface()) == 0 {
				m.Clear(f)
			}
		case f.Kind() == protoreflect.BytesKind && len(v.Bytes()) == 0, f.Kind() != protoreflect.BytesKind && v.Equal(f.Default()):
			m.Clear(f)
		}
		return true
	})
}
