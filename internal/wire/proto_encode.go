package wire

import (
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/encoding/protowire"
)

// Tag bytes: field number and wire type. All numbers in raftpb are below 16,
// so that a tag is one byte.
const (
	varint = byte(protowire.VarintType)
	length = byte(protowire.BytesType)
)

// AppendMessage appends the protobuf encoding of m to dst, equal to the result of
// proto.Marshal with Deterministic set, and returns the result. It only
// reads m.
func AppendMessage(dst []byte, m *raftpb.Message) []byte {
	b := Batch{copyAll: true}
	return b.message(dst, m)
}

// message and similar methods append to dst, which is b.buf while it grows, and return
// it: a local slice costs less than a field. They reference large data.
func (b *Batch) message(dst []byte, m *raftpb.Message) []byte {
	// The length of a response precedes it, so sizes are needed first:
	// one pass computes them, in the order in which messageFields uses them.
	var sizes []int
	if len(m.GetResponses()) > 0 {
		messageSize(m, &sizes)
	}
	return b.messageFields(dst, m, &sizes)
}

func (b *Batch) messageFields(dst []byte, m *raftpb.Message, sizes *[]int) []byte {
	if m == nil {
		return dst
	}
	return b.messageRest(appendMessageHead(dst, m, m.To, m.From), m, sizes)
}

// messageRest appends the fields of m from the entries on.
func (b *Batch) messageRest(dst []byte, m *raftpb.Message, sizes *[]int) []byte {
	for _, e := range m.Entries {
		dst = append(dst, 7<<3|length)
		dst = appendVarint(dst, uint64(EntrySize(e)))
		dst = b.entry(dst, e)
	}
	dst = appendUint(dst, 8<<3|varint, m.Commit)
	if m.Snapshot != nil {
		dst = append(dst, 9<<3|length)
		dst = appendVarint(dst, uint64(snapshotSize(m.Snapshot)))
		dst = b.snapshot(dst, m.Snapshot)
	}
	dst = appendBool(dst, 10<<3|varint, m.Reject)
	dst = appendUint(dst, 11<<3|varint, m.RejectHint)
	if m.Context != nil {
		dst = append(dst, 12<<3|length)
		dst = b.data(dst, m.Context)
	}
	dst = appendUint(dst, 13<<3|varint, m.Vote)
	for _, r := range m.Responses {
		size := (*sizes)[0]
		*sizes = (*sizes)[1:]
		dst = append(dst, 14<<3|length)
		dst = appendVarint(dst, uint64(size))
		dst = b.messageFields(dst, r, sizes)
	}
	return append(dst, unknownOfMessage(m)...)
}

// appendMessageHead appends the fields of m before the entries, with these To and From.
func appendMessageHead(dst []byte, m *raftpb.Message, to, from *uint64) []byte {
	if m.Type != nil {
		dst = append(dst, 1<<3|varint)
		dst = appendVarint(dst, uint64(*m.Type))
	}
	dst = appendUint(dst, 2<<3|varint, to)
	dst = appendUint(dst, 3<<3|varint, from)
	dst = appendUint(dst, 4<<3|varint, m.Term)
	dst = appendUint(dst, 5<<3|varint, m.LogTerm)
	return appendUint(dst, 6<<3|varint, m.Index)
}

func (b *Batch) entry(dst []byte, e *raftpb.Entry) []byte {
	if e == nil {
		return dst
	}
	if e.Type != nil {
		dst = append(dst, 1<<3|varint)
		dst = appendVarint(dst, uint64(*e.Type))
	}
	dst = appendUint(dst, 2<<3|varint, e.Term)
	dst = appendUint(dst, 3<<3|varint, e.Index)
	if e.Data != nil {
		dst = append(dst, 4<<3|length)
		dst = b.data(dst, e.Data)
	}
	return append(dst, unknownOfEntry(e)...)
}

func (b *Batch) snapshot(dst []byte, s *raftpb.Snapshot) []byte {
	if s.Data != nil {
		dst = append(dst, 1<<3|length)
		dst = b.data(dst, s.Data)
	}
	if md := s.Metadata; md != nil {
		dst = append(dst, 2<<3|length)
		dst = appendVarint(dst, uint64(metadataSize(md)))
		dst = appendMetadata(dst, md)
	}
	return append(dst, unknownOfSnapshot(s)...)
}

func appendMetadata(dst []byte, md *raftpb.SnapshotMetadata) []byte {
	if cs := md.ConfState; cs != nil {
		dst = append(dst, 1<<3|length)
		dst = appendVarint(dst, uint64(confStateSize(cs)))
		dst = appendConfState(dst, cs)
	}
	dst = appendUint(dst, 2<<3|varint, md.Index)
	dst = appendUint(dst, 3<<3|varint, md.Term)
	return append(dst, unknownOfMetadata(md)...)
}

func appendConfState(dst []byte, cs *raftpb.ConfState) []byte {
	dst = appendUints(dst, 1<<3|varint, cs.Voters)
	dst = appendUints(dst, 2<<3|varint, cs.Learners)
	dst = appendUints(dst, 3<<3|varint, cs.VotersOutgoing)
	dst = appendUints(dst, 4<<3|varint, cs.LearnersNext)
	dst = appendBool(dst, 5<<3|varint, cs.AutoLeave)
	return append(dst, unknownOfConfState(cs)...)
}

func appendVarint(dst []byte, v uint64) []byte {
	if v < 0x80 {
		return append(dst, byte(v))
	}
	return protowire.AppendVarint(dst, v)
}

func appendUint(dst []byte, tag byte, v *uint64) []byte {
	if v == nil {
		return dst
	}
	return appendVarint(append(dst, tag), *v)
}

func appendUints(dst []byte, tag byte, list []uint64) []byte {
	for _, v := range list {
		dst = appendVarint(append(dst, tag), v)
	}
	return dst
}

func appendBool(dst []byte, tag byte, v *bool) []byte {
	if v == nil {
		return dst
	}
	return append(dst, tag, byte(protowire.EncodeBool(*v)))
}
