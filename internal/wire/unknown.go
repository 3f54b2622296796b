package wire

import (
	"reflect"
	"unsafe"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// The protobuf runtime keeps fields that are unknown to this version of raftpb in an
// unexported field. Reading it through ProtoReflect costs 7 ns per
// message, and per entry, and marks the message; reading it
// in place costs nothing and leaves no mark.
var (
	messageUnknown   = unknownOffset[raftpb.Message]()
	entryUnknown     = unknownOffset[raftpb.Entry]()
	snapshotUnknown  = unknownOffset[raftpb.Snapshot]()
	metadataUnknown  = unknownOffset[raftpb.SnapshotMetadata]()
	confStateUnknown = unknownOffset[raftpb.ConfState]()
)

// unknownOffset returns the offset of T's unknown fields, or 0 if it differs from
// that of generated code so far.
func unknownOffset[T any]() uintptr {
	f, ok := reflect.TypeFor[T]().FieldByName("unknownFields")
	if !ok || f.Type != reflect.TypeFor[[]byte]() {
		return 0
	}
	return f.Offset
}

// unknownFields returns the unknown fields of m, which is at p, encoded. The message
// owns the bytes: read only. It is small enough to be inlined.
func unknownFields(m protoreflect.ProtoMessage, p unsafe.Pointer, offset uintptr) []byte {
	if offset == 0 {
		return unknownByReflection(m)
	}
	return *(*[]byte)(unsafe.Add(p, offset))
}

func unknownByReflection(m protoreflect.ProtoMessage) []byte { return m.ProtoReflect().GetUnknown() }

func unknownOfMessage(m *raftpb.Message) []byte {
	return unknownFields(m, unsafe.Pointer(m), messageUnknown)
}

// HasUnknownFields reports whether m has fields unknown to this version of raftpb,
// except in its parts.
func HasUnknownFields(m *raftpb.Message) bool { return len(unknownOfMessage(m)) > 0 }

func unknownOfEntry(e *raftpb.Entry) []byte {
	return unknownFields(e, unsafe.Pointer(e), entryUnknown)
}

func unknownOfSnapshot(s *raftpb.Snapshot) []byte {
	return unknownFields(s, unsafe.Pointer(s), snapshotUnknown)
}

func unknownOfMetadata(md *raftpb.SnapshotMetadata) []byte {
	return unknownFields(md, unsafe.Pointer(md), metadataUnknown)
}

func unknownOfConfState(cs *raftpb.ConfState) []byte {
	return unknownFields(cs, unsafe.Pointer(cs), confStateUnknown)
}

// addUnknown adds fields, already encoded, to the unknown fields of m.
func addUnknown(m protoreflect.ProtoMessage, fields []byte) {
	r := m.ProtoReflect()
	r.SetUnknown(append(r.GetUnknown(), fields...))
}
