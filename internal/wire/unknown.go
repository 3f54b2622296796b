package wire

import (
	"reflect"
	"unsafe"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// The fields that this version of raftpb does not know are kept by the protobuf
// runtime in an unexported field. Reading it through ProtoReflect costs 7 ns a
// message, for each entry as well, and leaves a mark in the message; reading it
// in place costs nothing and leaves none.
var (
	messageUnknown   = unknownOffset[raftpb.Message]()
	entryUnknown     = unknownOffset[raftpb.Entry]()
	snapshotUnknown  = unknownOffset[raftpb.Snapshot]()
	metadataUnknown  = unknownOffset[raftpb.SnapshotMetadata]()
	confStateUnknown = unknownOffset[raftpb.ConfState]()
)

// unknownOffset returns where T keeps its unknown fields, or 0 if not where
// generated code has kept them so far.
func unknownOffset[T any]() uintptr {
	f, ok := reflect.TypeFor[T]().FieldByName("unknownFields")
	if !ok || f.Type != reflect.TypeFor[[]byte]() {
		return 0
	}
	return f.Offset
}

// unknownFields returns the unknown fields of m, which is at p, encoded. They
// are the message's own bytes: read only. It is small enough to be inlined.
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

// HasUnknownFields reports whether m has fields that this version of raftpb does
// not know, those of its parts aside.
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
