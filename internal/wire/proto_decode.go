package wire

import (
	"slices"
	"unsafe"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/encoding/protowire"
)

// maxNesting is the maximum depth of nested messages, including the
// outermost: the limit of proto.Unmarshal.
const maxNesting = protowire.DefaultRecursionLimit

// UnmarshalMessage decodes b, a bare protobuf raftpb.Message. It accepts and
// refuses the same as proto.Unmarshal, with an equal message, except for
// lim (SizeError). Other errors wrap ErrMalformed. The message shares no memory
// with b.
func UnmarshalMessage(b []byte, lim Limits) (*raftpb.Message, error) {
	limit := lim.maxMessageBytes()
	if uint64(len(b)) > limit {
		return nil, &SizeError{What: "message", Size: uint64(len(b)), Limit: limit}
	}
	d := decode{budget: newBudget(limit)}
	d.reserve = lim.Reserve
	return d.message(b, maxNesting)
}

// decode is the state of decoding one message.
type decode struct {
	budget
	arena
}

// message decodes b. nesting is the number of levels left, including this one.
func (d *decode) message(b []byte, nesting int) (*raftpb.Message, error) {
	if nesting == 0 {
		return nil, errNesting
	}
	if err := d.chargeStructs(messageMemory); err != nil {
		return nil, err
	}
	entries, data := countEntries(b)
	if need := uint64(entries) * entryMemory; need > d.left {
		return nil, d.exceeded(need)
	} else if err := d.reserveAhead(need); err != nil {
		return nil, err
	}
	m := d.newMessage(entries)
	d.moreData = uint64(data)
	if err := d.messageFields(m, b, nesting); err != nil {
		return nil, err
	}
	return &m.msg, nil
}

// countEntries returns the number of entries of the message in b, and the total of their encoded
// bytes. It considers fields of the usual form, and stops at any
// other: the result is a hint.
func countEntries(b []byte) (n, size int) {
	for len(b) > 0 {
		num, typ, _, val, used := consumeField(b)
		if used <= 0 || typ > protowire.BytesType {
			break
		}
		if num == 7 && typ == protowire.BytesType {
			n++
			size += len(val)
		}
		b = b[used:]
	}
	return n, size
}

// messageFields decodes b into m, which may have fields already.
func (d *decode) messageFields(m *messageBlock, b []byte, nesting int) error {
	var unknown []byte
	for len(b) > 0 {
		num, typ, v, val, n := consumeField(b)
		if n <= 0 {
			return errField
		}
		known := false
		switch typ {
		case protowire.VarintType:
			known = m.setVarint(num, v)
		case protowire.BytesType:
			var err error
			if known, err = d.messageBytes(m, num, val, nesting); err != nil {
				return err
			}
		}
		if !known {
			if err := d.unknown(&unknown, b[:n]); err != nil {
				return err
			}
		}
		b = b[n:]
	}
	if unknown != nil {
		addUnknown(&m.msg, unknown)
	}
	return nil
}

// messageBytes decodes val into field num of m, and reports whether there is such
// a field.
func (d *decode) messageBytes(m *messageBlock, num uint64, val []byte, nesting int) (bool, error) {
	var err error
	switch num {
	case 7:
		err = d.entry(m, val, nesting)
	case 9:
		err = d.snapshot(m, val, nesting-1)
	case 12:
		m.msg.Context, err = d.data(val)
	case 14:
		err = d.response(m, val, nesting-1)
	default:
		return false, nil
	}
	return true, err
}

// entry decodes the next entry of m.
func (d *decode) entry(m *messageBlock, b []byte, nesting int) error {
	if nesting <= 1 {
		return errNesting
	}
	if err := d.chargeStructs(entryMemory); err != nil {
		return err
	}
	e := d.addEntry(m)
	d.moreData -= min(d.moreData, uint64(len(b)))
	return d.entryFields(e, b)
}

func (d *decode) entryFields(e *entryBlock, b []byte) error {
	if len(b) > 0 {
		b = e.scalars(b)
	}
	if len(b) > 2 && b[0] == 4<<3|length && int(b[1]) == len(b)-2 && b[1] < 0x80 { // short data is the rest
		var err error
		e.entry.Data, err = d.data(b[2:])
		return err
	}
	var unknown []byte
	for len(b) > 0 {
		num, typ, v, val, n := consumeField(b)
		if n <= 0 {
			return errField
		}
		switch {
		case typ == protowire.VarintType && e.setVarint(num, v):
		case typ == protowire.BytesType && num == 4:
			var err error
			if e.entry.Data, err = d.data(val); err != nil {
				return err
			}
		default:
			if err := d.unknown(&unknown, b[:n]); err != nil {
				return err
			}
		}
		b = b[n:]
	}
	if unknown != nil {
		addUnknown(&e.entry, unknown)
	}
	return nil
}

// response decodes the next response of m.
func (d *decode) response(m *messageBlock, b []byte, nesting int) error {
	if err := d.chargeStructs(slotMemory); err != nil {
		return err
	}
	r, err := d.message(b, nesting)
	m.msg.Responses = append(m.msg.Responses, r)
	return err
}

// newSnapshot returns the snapshot of m: a second one is merged with the first.
func (d *decode) newSnapshot(m *messageBlock) (*snapshotBlock, error) {
	if m.msg.Snapshot == nil {
		if err := d.chargeStructs(snapshotMemory); err != nil {
			return nil, err
		}
		m.msg.Snapshot = &new(snapshotBlock).snapshot
	}
	return (*snapshotBlock)(unsafe.Pointer(m.msg.Snapshot)), nil // its first field
}

func (d *decode) snapshot(m *messageBlock, b []byte, nesting int) error {
	s, err := d.newSnapshot(m)
	if err != nil {
		return err
	}
	return d.snapshotFields(s, b, nesting)
}

func (d *decode) snapshotFields(s *snapshotBlock, b []byte, nesting int) error {
	if nesting == 0 {
		return errNesting
	}
	var unknown []byte
	for len(b) > 0 {
		num, typ, _, val, n := consumeField(b)
		if n <= 0 {
			return errField
		}
		var err error
		switch {
		case typ == protowire.BytesType && num == 1:
			s.snapshot.Data, err = d.data(val)
		case typ == protowire.BytesType && num == 2:
			s.snapshot.Metadata = &s.metadata
			err = d.metadataFields(s, val, nesting-1)
		default:
			err = d.unknown(&unknown, b[:n])
		}
		if err != nil {
			return err
		}
		b = b[n:]
	}
	if unknown != nil {
		addUnknown(&s.snapshot, unknown)
	}
	return nil
}

func (d *decode) metadataFields(s *snapshotBlock, b []byte, nesting int) error {
	if nesting == 0 {
		return errNesting
	}
	var unknown []byte
	for len(b) > 0 {
		num, typ, v, val, n := consumeField(b)
		if n <= 0 {
			return errField
		}
		var err error
		switch {
		case typ == protowire.BytesType && num == 1:
			s.metadata.ConfState = &s.confState
			err = d.confStateFields(s, val, nesting-1)
		case typ == protowire.VarintType && num == 2:
			s.index = v
			s.metadata.Index = &s.index
		case typ == protowire.VarintType && num == 3:
			s.term = v
			s.metadata.Term = &s.term
		default:
			err = d.unknown(&unknown, b[:n])
		}
		if err != nil {
			return err
		}
		b = b[n:]
	}
	if unknown != nil {
		addUnknown(&s.metadata, unknown)
	}
	return nil
}

func (d *decode) confStateFields(s *snapshotBlock, b []byte, nesting int) error {
	if nesting == 0 {
		return errNesting
	}
	cs := &s.confState
	lists := [...]*[]uint64{1: &cs.Voters, 2: &cs.Learners, 3: &cs.VotersOutgoing, 4: &cs.LearnersNext}
	var unknown []byte
	for len(b) > 0 {
		num, typ, v, val, n := consumeField(b)
		if n <= 0 {
			return errField
		}
		var err error
		switch {
		case typ == protowire.VarintType && num == 5:
			s.autoLeave = v != 0
			cs.AutoLeave = &s.autoLeave
		case typ == protowire.VarintType && num < 5:
			if err = d.chargeStructs(8); err == nil {
				*lists[num] = append(*lists[num], v)
			}
		case typ == protowire.BytesType && num < 5:
			err = d.packed(lists[num], val)
		default:
			err = d.unknown(&unknown, b[:n])
		}
		if err != nil {
			return err
		}
		b = b[n:]
	}
	if unknown != nil {
		addUnknown(cs, unknown)
	}
	return nil
}

// packed adds the varints in b to list.
func (d *decode) packed(list *[]uint64, b []byte) error {
	n := 0
	for _, c := range b {
		if c < 0x80 {
			n++
		}
	}
	if err := d.chargeStructs(8 * uint64(n)); err != nil {
		return err
	}
	*list = slices.Grow(*list, n)
	for len(b) > 0 {
		v, n := protowire.ConsumeVarint(b)
		if n < 0 {
			return errField
		}
		*list = append(*list, v)
		b = b[n:]
	}
	return nil
}

// data returns a copy of p, not nil, or p itself if the message owns it.
func (d *decode) data(p []byte) ([]byte, error) {
	if err := d.charge(uint64(len(p))); err != nil {
		return nil, err
	}
	if d.owned {
		return p[:len(p):len(p)], nil
	}
	c := d.bytes(len(p))
	copy(c, p)
	return c, nil
}

// unknown adds a field, including its tag, to the encoded unknown fields, like
// proto.Unmarshal: the tag in its shortest form, the value unchanged.
func (d *decode) unknown(fields *[]byte, field []byte) error {
	if err := d.charge(uint64(len(field))); err != nil {
		return err
	}
	num, typ, n := protowire.ConsumeTag(field)
	*fields = protowire.AppendTag(*fields, num, typ)
	*fields = append(*fields, field[n:]...)
	return nil
}
