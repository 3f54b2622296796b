package wire

import (
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/encoding/protowire"
)

const (
	// maxHead is the maximum size of a tag and the varint after it.
	maxHead = 20
)

// ReadMessage reads n bytes from r and decodes them like UnmarshalMessage. io.ErrUnexpectedEOF
// means that there were fewer; other errors of the source are returned unchanged.
func ReadMessage(r *Reader, n uint64, lim Limits) (*raftpb.Message, error) {
	s := newStream(r, lim)
	s.dec.reserve = lim.Reserve
	return s.message(n)
}

// stream decodes messages while their bytes arrive.
//
// Small parts are made contiguous in the buffer of the Reader, and decoded from there.
// Large parts are read field by field, so that their data goes from the source
// directly to its final place. A field of unusual form ends that: the rest of
// the part that contains it is collected, and decoded from contiguous bytes.
type stream struct {
	dec   decode
	src   *Reader
	limit uint64 // for the encoded message, and for its memory
	large uint64 // bytes from which a part is read field by field
}

func newStream(r *Reader, lim Limits) stream {
	return stream{src: r, limit: lim.maxMessageBytes(), large: ownData}
}

// message reads and decodes the n bytes of a message.
func (s *stream) message(n uint64) (*raftpb.Message, error) {
	if err := s.begin(n); err != nil {
		return nil, err
	}
	defer s.end()
	if n < s.large || n <= uint64(s.src.Buffered()) {
		b, err := s.collect(n)
		if err != nil {
			return nil, err
		}
		return s.dec.message(b, maxNesting)
	}
	return s.largeMessage(n)
}

// largeMessage reads a message field by field.
func (s *stream) largeMessage(n uint64) (*raftpb.Message, error) {
	if err := s.dec.chargeStructs(messageMemory); err != nil {
		return nil, err
	}
	m := s.dec.newMessage(1)
	if err := s.fields(m, n); err != nil {
		return nil, err
	}
	if len(m.msg.Entries) == 0 {
		m.msg.Entries = nil // not the room for one
	}
	return &m.msg, nil
}

// begin prepares s for a message of n bytes.
func (s *stream) begin(n uint64) error {
	if n > s.limit {
		return &SizeError{What: "message", Size: n, Limit: s.limit}
	}
	s.dec.left, s.dec.budget.limit = s.limit, s.limit
	if s.src.Buffered() >= burstBytes {
		s.dec.burst = true
	} else if s.dec.burst {
		s.dec.calm()
	}
	return nil
}

// Memory implements Decoder.
func (s *stream) Memory() int64 { return int64(s.dec.budget.limit - s.dec.left) }

// end releases the memory that the message did not use.
func (s *stream) end() { s.dec.reset() }

// block is a part of a message that can be decoded field by field.
type block interface {
	setVarint(num, v uint64) bool
	// readBytes reads n bytes into the field num, and reports whether there is such a
	// field: if not, it has read nothing. after is the number of following bytes of the block.
	readBytes(s *stream, num, n, after uint64) (bool, error)
	// decodeFields decodes contiguous bytes.
	decodeFields(d *decode, b []byte) error
}

// fields reads n bytes into b.
func (s *stream) fields(b block, n uint64) error {
	for n > 0 {
		head, err := s.src.peek(int(min(n, maxHead)))
		if err != nil {
			return inside(err)
		}
		num, typ, tag := consumeTag(head)
		if tag <= 0 {
			return errField
		}
		known, used := false, uint64(0)
		switch typ {
		case protowire.VarintType:
			known, used, err = s.varint(b, num, head, tag)
		case protowire.BytesType:
			known, used, err = s.bytesField(b, num, head, tag, n)
		}
		if err != nil {
			return err
		}
		if !known {
			rest, err := s.collect(n)
			if err != nil {
				return err
			}
			return b.decodeFields(&s.dec, rest)
		}
		n -= used
	}
	return nil
}

func (s *stream) varint(b block, num uint64, head []byte, tag int) (known bool, used uint64, err error) {
	v, n := consumeVarint(head[tag:])
	if n <= 0 {
		return false, 0, errField
	}
	if !b.setVarint(num, v) {
		return false, 0, nil
	}
	s.src.discard(tag + n)
	return true, uint64(tag + n), nil
}

// bytesField reads the length-delimited field at the start of n bytes.
func (s *stream) bytesField(b block, num uint64, head []byte, tag int, n uint64) (known bool, used uint64, err error) {
	length, k := consumeVarint(head[tag:])
	if k <= 0 {
		return false, 0, errField
	}
	used = uint64(tag + k)
	if length > n-used {
		return false, 0, errLength
	}
	s.src.discard(tag + k)
	known, err = b.readBytes(s, num, length, n-used-length)
	if !known {
		s.src.discard(-(tag + k))
		return false, 0, err
	}
	return true, used + length, err
}

// collect reads n bytes and returns them. They stay valid until the next read.
func (s *stream) collect(n uint64) ([]byte, error) {
	if n > peekBytes && n > uint64(s.src.Buffered()) {
		return readData(s.src, n)
	}
	b, err := s.src.peek(int(n))
	if err != nil {
		return nil, inside(err)
	}
	s.src.discard(int(n))
	return b, nil
}

// readField reads data of n bytes, which raft will own.
func (s *stream) readField(n uint64) ([]byte, error) {
	if n < s.large {
		b, err := s.collect(n)
		if err != nil {
			return nil, err
		}
		return s.dec.data(b)
	}
	if err := s.dec.charge(n); err != nil {
		return nil, err
	}
	return readData(s.src, n)
}

// readEntry reads the next entry of m.
func (s *stream) readEntry(m *messageBlock, n uint64) error {
	if n < s.large {
		b, err := s.collect(n)
		if err != nil {
			return err
		}
		return s.dec.entry(m, b, maxNesting)
	}
	if err := s.dec.chargeStructs(entryMemory); err != nil {
		return err
	}
	return s.fields(s.dec.addEntry(m), n)
}

func (m *messageBlock) readBytes(s *stream, num, n, after uint64) (bool, error) {
	var err error
	switch num {
	case 7:
		s.dec.moreEntries = int(min(after/(n+2)+1, chunkEntries))
		s.dec.moreData = n + after
		err = s.readEntry(m, n)
	case 9:
		var snapshot *snapshotBlock
		if snapshot, err = s.dec.newSnapshot(m); err == nil {
			err = s.fields(snapshot, n)
		}
	case 12:
		m.msg.Context, err = s.readField(n)
	case 14:
		var b []byte
		if b, err = s.collect(n); err == nil {
			err = s.dec.response(m, b, maxNesting-1)
		}
	default:
		return false, nil
	}
	return true, err
}

func (m *messageBlock) decodeFields(d *decode, b []byte) error {
	return d.messageFields(m, b, maxNesting)
}

func (e *entryBlock) readBytes(s *stream, num, n, _ uint64) (bool, error) {
	if num != 4 {
		return false, nil
	}
	var err error
	e.entry.Data, err = s.readField(n)
	return true, err
}

func (e *entryBlock) decodeFields(d *decode, b []byte) error { return d.entryFields(e, b) }

func (s *snapshotBlock) readBytes(src *stream, num, n, _ uint64) (bool, error) {
	if num != 1 {
		return false, nil // the metadata is also decoded from contiguous bytes
	}
	var err error
	s.snapshot.Data, err = src.readField(n)
	return true, err
}

func (s *snapshotBlock) decodeFields(d *decode, b []byte) error {
	return d.snapshotFields(s, b, maxNesting-1)
}
