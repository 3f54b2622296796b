package wire

import "go.etcd.io/raft/v3/raftpb"

// MemorySize returns the memory of m in bytes once it is decoded: structs,
// pointers and data. It is meant for accounting, and takes time in proportion to the
// entries. A nil message takes 0.
func MemorySize(m *raftpb.Message) int64 {
	if m == nil {
		return 0
	}
	n := int64(messageMemory) + int64(len(m.Entries))*int64(entryMemory)
	for _, e := range m.Entries {
		if e != nil {
			n += int64(len(e.Data) + len(unknownOfEntry(e)))
		}
	}
	n += int64(len(m.Context) + len(unknownOfMessage(m)))
	if m.Snapshot != nil {
		n += snapshotMemorySize(m.Snapshot)
	}
	for _, r := range m.Responses {
		n += int64(slotMemory) + MemorySize(r)
	}
	return n
}

func snapshotMemorySize(s *raftpb.Snapshot) int64 {
	n := int64(snapshotMemory) + int64(len(s.Data)+len(unknownOfSnapshot(s)))
	if md := s.Metadata; md != nil {
		n += int64(len(unknownOfMetadata(md)))
		if cs := md.ConfState; cs != nil {
			n += int64(len(unknownOfConfState(cs)))
			n += 8 * int64(len(cs.Voters)+len(cs.Learners)+len(cs.VotersOutgoing)+len(cs.LearnersNext))
		}
	}
	return n
}
