package wire

import (
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/encoding/protowire"
)

// MessageSize returns the length in bytes of the protobuf encoding of m.
func MessageSize(m *raftpb.Message) int {
	var sizes []int
	return messageSize(m, &sizes)
}

// messageSize returns the encoded length of m and appends those of its
// responses, and of theirs, to sizes, each before those inside it.
func messageSize(m *raftpb.Message, sizes *[]int) int {
	if m == nil {
		return 0
	}
	n := sizeUint(m.To) + sizeUint(m.From) + sizeUint(m.Term) + sizeUint(m.LogTerm) + sizeUint(m.Index) +
		sizeUint(m.Commit) + sizeUint(m.Vote) + sizeBool(m.Reject) + sizeUint(m.RejectHint) +
		sizeData(m.Context) + len(unknownOfMessage(m))
	if m.Type != nil {
		n += 1 + protowire.SizeVarint(uint64(*m.Type))
	}
	for _, e := range m.Entries {
		n += 1 + protowire.SizeBytes(EntrySize(e))
	}
	if m.Snapshot != nil {
		n += 1 + protowire.SizeBytes(snapshotSize(m.Snapshot))
	}
	for _, r := range m.Responses {
		i := len(*sizes)
		*sizes = append(*sizes, 0)
		size := messageSize(r, sizes)
		(*sizes)[i] = size
		n += 1 + protowire.SizeBytes(size)
	}
	return n
}

// EntrySize returns the length in bytes of the protobuf encoding of e.
func EntrySize(e *raftpb.Entry) int {
	if e == nil {
		return 0
	}
	n := sizeUint(e.Term) + sizeUint(e.Index) + sizeData(e.Data) + len(unknownOfEntry(e))
	if e.Type != nil {
		n += 1 + protowire.SizeVarint(uint64(*e.Type))
	}
	return n
}

func snapshotSize(s *raftpb.Snapshot) int {
	n := sizeData(s.Data) + len(unknownOfSnapshot(s))
	if s.Metadata != nil {
		n += 1 + protowire.SizeBytes(metadataSize(s.Metadata))
	}
	return n
}

func metadataSize(md *raftpb.SnapshotMetadata) int {
	n := sizeUint(md.Index) + sizeUint(md.Term) + len(unknownOfMetadata(md))
	if md.ConfState != nil {
		n += 1 + protowire.SizeBytes(confStateSize(md.ConfState))
	}
	return n
}

func confStateSize(cs *raftpb.ConfState) int {
	return sizeUints(cs.Voters) + sizeUints(cs.Learners) + sizeUints(cs.VotersOutgoing) +
		sizeUints(cs.LearnersNext) + sizeBool(cs.AutoLeave) + len(unknownOfConfState(cs))
}

func sizeUint(v *uint64) int {
	if v == nil {
		return 0
	}
	return 1 + protowire.SizeVarint(*v)
}

func sizeUints(list []uint64) int {
	n := len(list)
	for _, v := range list {
		n += protowire.SizeVarint(v)
	}
	return n
}

func sizeBool(v *bool) int {
	if v == nil {
		return 0
	}
	return 2
}

func sizeData(p []byte) int {
	if p == nil {
		return 0
	}
	return 1 + protowire.SizeBytes(len(p))
}
