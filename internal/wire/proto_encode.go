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

// AppendMessage appends the protobuf encoding of m to dst, equal to what
// proto.Marshal makes with Deterministic set, and returns the result. It only
// reads m.
func AppendMessage(dst []byte, m *raftpb.Message) []byte {
	b := Batch{buf: dst, copyAll: true}
	b.message(m)
	return b.buf
}

// AppendEntry appends the protobuf encoding of e to dst and returns the result.
func AppendEntry(dst []byte, e *raftpb.Entry) []byte {
	b := Batch{buf: dst, copyAll: true}
	b.entry(e)
	return b.buf
}

// message appends m, by reference where its data is large.
func (b *Batch) message(m *raftpb.Message) {
	// The length of a response goes before it, so that sizes are needed first:
	// they are taken in one pass, in the order in which messageFields asks.
	var sizes []int
	if len(m.GetResponses()) > 0 {
		messageSize(m, &sizes)
	}
	b.messageFields(m, &sizes)
}

func (b *Batch) messageFields(m *raftpb.Message, sizes *[]int) {
	if m == nil {
		return
	}
	b.buf = appendMessageHead(b.buf, m)
	for _, e := range m.Entries {
		b.buf = append(b.buf, 7<<3|length)
		b.buf = protowire.AppendVarint(b.buf, uint64(EntrySize(e)))
		b.entry(e)
	}
	b.buf = appendUint(b.buf, 8<<3|varint, m.Commit)
	if m.Snapshot != nil {
		b.buf = append(b.buf, 9<<3|length)
		b.buf = protowire.AppendVarint(b.buf, uint64(snapshotSize(m.Snapshot)))
		b.snapshot(m.Snapshot)
	}
	b.buf = appendBool(b.buf, 10<<3|varint, m.Reject)
	b.buf = appendUint(b.buf, 11<<3|varint, m.RejectHint)
	if m.Context != nil {
		b.buf = append(b.buf, 12<<3|length)
		b.buf = protowire.AppendVarint(b.buf, uint64(len(m.Context)))
		b.data(m.Context)
	}
	b.buf = appendUint(b.buf, 13<<3|varint, m.Vote)
	for _, r := range m.Responses {
		size := (*sizes)[0]
		*sizes = (*sizes)[1:]
		b.buf = append(b.buf, 14<<3|length)
		b.buf = protowire.AppendVarint(b.buf, uint64(size))
		b.messageFields(r, sizes)
	}
	b.buf = append(b.buf, unknownOfMessage(m)...)
}

// appendMessageHead appends the fields of m that come before the entries.
func appendMessageHead(dst []byte, m *raftpb.Message) []byte {
	if m.Type != nil {
		dst = append(dst, 1<<3|varint)
		dst = protowire.AppendVarint(dst, uint64(*m.Type))
	}
	dst = appendUint(dst, 2<<3|varint, m.To)
	dst = appendUint(dst, 3<<3|varint, m.From)
	dst = appendUint(dst, 4<<3|varint, m.Term)
	dst = appendUint(dst, 5<<3|varint, m.LogTerm)
	return appendUint(dst, 6<<3|varint, m.Index)
}

func (b *Batch) entry(e *raftpb.Entry) {
	if e == nil {
		return
	}
	dst := b.buf
	if e.Type != nil {
		dst = append(dst, 1<<3|varint)
		dst = protowire.AppendVarint(dst, uint64(*e.Type))
	}
	dst = appendUint(dst, 2<<3|varint, e.Term)
	dst = appendUint(dst, 3<<3|varint, e.Index)
	if e.Data != nil {
		dst = append(dst, 4<<3|length)
		dst = protowire.AppendVarint(dst, uint64(len(e.Data)))
	}
	b.buf = dst
	b.data(e.Data)
	b.buf = append(b.buf, unknownOfEntry(e)...)
}

func (b *Batch) snapshot(s *raftpb.Snapshot) {
	if s.Data != nil {
		b.buf = append(b.buf, 1<<3|length)
		b.buf = protowire.AppendVarint(b.buf, uint64(len(s.Data)))
		b.data(s.Data)
	}
	if md := s.Metadata; md != nil {
		b.buf = append(b.buf, 2<<3|length)
		b.buf = protowire.AppendVarint(b.buf, uint64(metadataSize(md)))
		b.buf = appendMetadata(b.buf, md)
	}
	b.buf = append(b.buf, unknownOfSnapshot(s)...)
}

func appendMetadata(dst []byte, md *raftpb.SnapshotMetadata) []byte {
	if cs := md.ConfState; cs != nil {
		dst = append(dst, 1<<3|length)
		dst = protowire.AppendVarint(dst, uint64(confStateSize(cs)))
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

func appendUint(dst []byte, tag byte, v *uint64) []byte {
	if v == nil {
		return dst
	}
	return protowire.AppendVarint(append(dst, tag), *v)
}

func appendUints(dst []byte, tag byte, list []uint64) []byte {
	for _, v := range list {
		dst = protowire.AppendVarint(append(dst, tag), v)
	}
	return dst
}

func appendBool(dst []byte, tag byte, v *bool) []byte {
	if v == nil {
		return dst
	}
	return append(dst, tag, byte(protowire.EncodeBool(*v)))
}
