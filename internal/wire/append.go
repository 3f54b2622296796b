package wire

import "go.etcd.io/raft/v3/raftpb"

// This file reads the entries of a MsgApp that was sent without its head, on the msgapp
// v2 stream and on that of several groups.

// beginAppend prepares s for the frame of a MsgApp of count entries that continues at
// pos, and returns its block, without From and To. size is the minimum size of the frame,
// as far as it is known.
func (s *stream) beginAppend(count, size uint64, pos position) (*messageBlock, error) {
	if err := s.begin(size); err != nil {
		return nil, err
	}
	// The entries have not arrived: nothing is allocated for all of
	// them, but that many empty ones must fit.
	if count > s.dec.left/entryMemory {
		return nil, s.dec.exceeded(saturatedMul(count, entryMemory))
	}
	return s.appendHead(count, pos)
}

// appendHead returns the block of the MsgApp that continues at pos, with
// room for count entries, or for the first of them. The caller fills in to and from.
func (s *stream) appendHead(count uint64, pos position) (*messageBlock, error) {
	if err := s.dec.chargeStructs(messageMemory); err != nil {
		return nil, err
	}
	m := s.dec.newMessage(int(min(count, chunkEntries)))
	m.typ = raftpb.MessageType_MsgApp
	m.term, m.logTerm, m.index = pos.term, pos.term, pos.index
	// Side by side, so that they share the garbage collector's barrier.
	m.msg.Type, m.msg.To, m.msg.From = &m.typ, &m.to, &m.from
	m.msg.Term, m.msg.LogTerm, m.msg.Index, m.msg.Commit = &m.term, &m.logTerm, &m.index, &m.commit
	return m, nil
}

// nextEntry reads the next entry of m, of n bytes, the first of left. size is that of the
// frame so far; the result is that with the entry.
func (s *stream) nextEntry(m *messageBlock, n, left, size uint64) (uint64, error) {
	if n > s.limit-size {
		return 0, &SizeError{What: "message", Size: saturated(size, n), Limit: s.limit}
	}
	s.dec.moreEntries = int(min(left, chunkEntries))
	s.dec.moreData = n + (min(left, chunkEntries)-1)*min(n, ownData)
	return size + n, s.entryOf(m, n)
}

// entryOf reads the next entry of m, of n bytes. One of keptEntry and more that has
// already arrived stays in place: its message keeps the Reader's buffer, at most
// keptBuffer, and the Reader takes a new one. That saves copying an entry that is too
// small to be read past the buffer. A smaller one would keep too much: the other
// bytes in the buffer, link heartbeats for example, are charged to no message.
func (s *stream) entryOf(m *messageBlock, n uint64) error {
	if n < keptEntry || n >= s.large {
		s.src.most = maxBuffer
		return s.readEntry(m, n)
	}
	if s.src.most = keptBuffer; len(s.src.buf) > keptBuffer {
		return s.readEntry(m, n)
	}
	b, err := s.collect(n)
	if err != nil {
		return err
	}
	s.src.kept, s.dec.owned = true, true
	err = s.dec.entry(m, b, maxNesting)
	s.dec.owned = false
	return err
}
