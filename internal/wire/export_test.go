package wire

import "go.etcd.io/raft/v3/raftpb"

// Sizes that tests measure.
const (
	MinBuffer  = minBuffer
	MaxBuffer  = maxBuffer
	Ahead      = ahead
	KeepBuffer = keepBuffer
	JoinBytes  = joinBytes
)

// ReadMessageByFields is ReadMessage for a message of any size as if it were a
// large one, in which everything from large bytes on is taken apart.
func ReadMessageByFields(r *Reader, n, large uint64, lim Limits) (*raftpb.Message, error) {
	s := newStream(r, lim)
	s.large = large
	if err := s.begin(n); err != nil {
		return nil, err
	}
	return s.largeMessage(n)
}

// TakeApart makes the decoder take everything apart from large bytes on.
func TakeApart(d Decoder, large uint64) {
	switch d := d.(type) {
	case *messageDecoder:
		d.large = large
	case *msgAppV2Decoder:
		d.large = large
	}
}

// BufferSize returns the size of the reader's buffer in bytes.
func BufferSize(r *Reader) int { return len(r.buf) }

// BufferCap returns the capacity of the batch's buffers in bytes.
func BufferCap(b *Batch) int { return cap(b.buf) + cap(b.join) }

// References returns how many references to large data the batch still holds, in
// all the memory it keeps.
func References(b *Batch) (held int) {
	for _, r := range b.refs[:cap(b.refs)] {
		if r.data != nil {
			held++
		}
	}
	for _, p := range b.vec[:cap(b.vec)] {
		if len(p) >= RefThreshold {
			held++
		}
	}
	return held
}

// AppendEntry appends the protobuf encoding of e to dst and returns the result.
func AppendEntry(dst []byte, e *raftpb.Entry) []byte {
	b := Batch{copyAll: true}
	return b.entry(dst, e)
}

// UnmarshalEntry does for a raftpb.Entry what UnmarshalMessage does for a
// message.
func UnmarshalEntry(b []byte, lim Limits) (*raftpb.Entry, error) {
	limit := lim.maxMessageBytes()
	if uint64(len(b)) > limit {
		return nil, &SizeError{What: "message", Size: uint64(len(b)), Limit: limit}
	}
	d := decode{budget: newBudget(limit)}
	if err := d.charge(entryMemory); err != nil {
		return nil, err
	}
	e := new(entryBlock)
	if err := d.entryFields(e, b); err != nil {
		return nil, err
	}
	return &e.entry, nil
}

// AppendMessage appends m as bare protobuf, without any framing.
func (b *Batch) AppendMessage(m *raftpb.Message) { b.buf = b.message(b.buf, m) }

// TakeGroupsApart is TakeApart for a GroupDecoder.
func TakeGroupsApart(d *GroupDecoder, large uint64) { d.large = large }

// Limits of the extension groups-1.
const (
	MaxSlots   = maxSlots
	MaxPayload = maxPayload
)

// SameGroupPlace reports whether a heartbeat of a after a response of b ends the frame.
func SameGroupPlace(a, b uint64) bool {
	var s groupSet
	s.add(b)
	return s.has(a)
}

// RowsCap returns the bytes that e keeps for rows.
func RowsCap(e *GroupEncoder) (n int) {
	for _, c := range []*columns{&e.heartbeats, &e.responses} {
		n += cap(c.group.b) + cap(c.from.b) + cap(c.to.b) + cap(c.term.b) + cap(c.commit)
	}
	if e.responded.places != nil {
		n += len(e.responded.places) * 8
	}
	return n
}
