package wire

import (
	"errors"
	"fmt"
	"unsafe"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/encoding/protowire"
)

var (
	errSlot      = fmt.Errorf("%w: groups-1 slot is not defined", ErrMalformed)
	errVarint    = fmt.Errorf("%w: bad varint", ErrMalformed)
	errAddressed = fmt.Errorf("%w: message of a slot has its own From or To", ErrMalformed)
)

// GroupDecoder reads what a GroupEncoder wrote, from one connection or from
// the body of one POST. It is not safe for concurrent use.
type GroupDecoder struct {
	stream
	slots decoderSlots
	rows  rows

	refusal GroupRefusal // valid if the last frame was one, or a message that was skipped
	refused bool
	skipped bool

	otherType bool // the message that was read last is known not to be a MsgApp
}

// NewGroupDecoder returns a decoder for a new connection, or for a body.
func NewGroupDecoder(r *Reader, lim Limits) *GroupDecoder {
	d := &GroupDecoder{stream: newStream(r, lim)}
	d.dec.reserve = lim.Reserve
	return d
}

// Buffered reports whether the next Decode returns a message that has arrived already: a further row of
// the same frame. It then neither blocks nor fails.
func (d *GroupDecoder) Buffered() bool { return d.rows.left > 0 }

// Decode returns the next message and its group, and blocks until the message has arrived. A nil
// message without an error is a link heartbeat, a Refusal, or a message that was Skipped. The caller owns the message. Errors are those of
// Decoder.
//
// Messages of one frame may share an allocation: each keeps up to 4 KiB alive.
func (d *GroupDecoder) Decode() (group uint64, m *raftpb.Message, err error) {
	d.refused, d.skipped = false, false
	for d.rows.left == 0 {
		if group, m, err := d.loneEntry(); m != nil || err != nil {
			return group, m, err
		}
		b, err := d.src.peek(1)
		if err != nil {
			return 0, nil, err
		}
		typ := b[0]
		d.src.discard(1)
		switch typ {
		case groupLinkHeartbeat:
			return 0, nil, nil
		case groupRefusal:
			return 0, nil, inside(d.readRefusal())
		case groupSlot:
			err = d.define()
		case groupHeartbeats, groupHeartbeatResponses:
			err = d.columns(typ == groupHeartbeats)
		default:
			group, m, err := d.frame(typ)
			return group, m, inside(err)
		}
		if err != nil {
			return 0, nil, inside(err)
		}
	}
	group, m = d.row()
	return group, m, nil
}

// frame reads a frame of one message, after its type.
func (d *GroupDecoder) frame(typ byte) (group uint64, m *raftpb.Message, err error) {
	switch typ {
	case groupMessage:
		return d.slotMessage()
	case groupWholeMessage:
		if group, err = d.src.readVarint(); err == nil {
			m, err = d.lengthAndMessage(flow{group: group})
		}
		return group, m, err
	case groupEntries:
		return d.entries()
	default:
		return 0, nil, fmt.Errorf("%w: groups-1 type %d", ErrMalformed, typ)
	}
}

// define reads a frame that defines a slot, after its type.
func (d *GroupDecoder) define() error {
	var v [4]uint64
	for i := range v {
		var err error
		if v[i], err = d.src.readVarint(); err != nil {
			return err
		}
	}
	return d.slots.define(v[0], flow{group: v[1], from: v[2], to: v[3]})
}

// slot reads the number of a slot.
func (d *GroupDecoder) slot() (*slot, error) {
	number, err := d.src.readVarint()
	if err != nil {
		return nil, err
	}
	s := d.slots.find(number)
	if s == nil {
		return nil, errSlot
	}
	return s, nil
}

// lengthAndMessage returns nil for a message that was skipped, of f.
func (d *GroupDecoder) lengthAndMessage(f flow) (*raftpb.Message, error) {
	n, err := d.src.readVarint()
	if err != nil {
		return nil, err
	}
	end := saturated(d.src.offset(), n)
	if d.otherType, err = d.isNoAppend(n); err != nil {
		return nil, err
	}
	m, err := d.message(n)
	if err != nil {
		return nil, d.skip(f, err, end, 0)
	}
	return m, nil
}

// isNoAppend reports whether the message of n bytes that follows has another type than MsgApp, as far as that is known before it is
// decoded: the type is the first field, as usual.
func (d *GroupDecoder) isNoAppend(n uint64) (bool, error) {
	if n < 2 || n > maxSkipped {
		return false, nil
	}
	b, err := d.src.peek(2)
	if err != nil {
		return false, err
	}
	return b[0] == 1<<3|varint && b[1] < 0x80 && b[1] != byte(raftpb.MessageType_MsgApp), nil
}

func (d *GroupDecoder) slotMessage() (uint64, *raftpb.Message, error) {
	s, err := d.slot()
	if err != nil {
		return 0, nil, err
	}
	m, err := d.lengthAndMessage(s.flow)
	if m == nil {
		s.lost = s.lost || !d.otherType
		return 0, nil, err
	}
	if m.From != nil || m.To != nil {
		return 0, nil, errAddressed
	}
	block := (*messageBlock)(unsafe.Pointer(m)) // its first field
	block.to, block.from = s.flow.to, s.flow.from
	m.To, m.From = &block.to, &block.from
	if m.GetType() == raftpb.MessageType_MsgApp {
		s.pos.after(m)
		s.lost = false
	}
	return s.flow.group, m, nil
}

// entries reads a MsgApp that continues at the position of its slot, after the type.
func (d *GroupDecoder) entries() (uint64, *raftpb.Message, error) {
	s, err := d.slot()
	if err != nil {
		return 0, nil, err
	}
	commit, err := d.src.readVarint()
	if err != nil {
		return 0, nil, err
	}
	count, err := d.src.readVarint()
	if err != nil {
		return 0, nil, err
	}
	at := s.pos
	s.pos.index += count
	if s.lost {
		return 0, nil, d.skip(s.flow, errLostPosition, d.src.offset(), count)
	}
	size := count // an entry has a length, of a byte at least
	m, err := d.beginAppend(count, size, at)
	if err != nil {
		return 0, nil, d.skip(s.flow, err, d.src.offset(), count)
	}
	defer d.end()
	m.to, m.from, m.commit = s.flow.to, s.flow.from, commit
	for left := count; left > 0; left-- {
		n, err := d.src.readVarint()
		if err != nil {
			return 0, nil, err
		}
		end := saturated(d.src.offset(), n)
		if size, err = d.nextEntry(m, n, left, size); err != nil {
			return 0, nil, d.skip(s.flow, err, end, left-1)
		}
	}
	return s.flow.group, &m.msg, nil
}

// maxSkipped is how many bytes of a message are skipped, and how many entries: more are no message.
const maxSkipped = 1 << 40

// errLostPosition is why an append is skipped that continues after one that was.
var errLostPosition = &SizeError{What: "message before a message"}

// skip reads the rest of a message of f that is too large, so that the other groups do not lose the stream for it: up to this offset, and a
// number of entries after it. For another error than a SizeError it does nothing, and returns it.
func (d *GroupDecoder) skip(f flow, err error, end, entries uint64) error {
	if !errors.Is(err, ErrExceedSizeLimit) || entries > maxSkipped {
		return err
	}
	for left := uint64(maxSkipped); ; entries-- {
		n := end - d.src.offset()
		if n > left {
			return err
		}
		left -= n
		if err := d.src.skip(n); err != nil {
			return err
		}
		if entries == 0 {
			break
		}
		n, lengthErr := d.src.readVarint()
		if lengthErr != nil {
			return lengthErr
		}
		end = saturated(d.src.offset(), n)
	}
	d.refusal, d.skipped = GroupRefusal{f.group, f.from, f.to, TooLarge}, true
	return nil
}

// loneEntry decodes the most common frame, as loneEntry of the msgapp v2 stream does.
func (d *GroupDecoder) loneEntry() (uint64, *raftpb.Message, error) {
	b := d.src.buf[d.src.r:d.src.w]
	if len(b) == 0 || b[0] != groupEntries {
		return 0, nil, nil
	}
	at := 1
	number, at := varintAt(b, at)
	commit, at := varintAt(b, at)
	if at < 0 || at >= len(b) || b[at] != 1 { // the count
		return 0, nil, nil
	}
	n, at := varintAt(b, at+1)
	s := d.slots.find(number)
	// The first conditions limit the sums.
	if at < 0 || s == nil || s.lost || n >= min(keptEntry, d.large) || n > uint64(len(b)-at) || messageMemory+entryMemory+n > d.limit {
		return 0, nil, nil
	}
	end := at + int(n)
	if err := d.begin(uint64(end)); err != nil {
		return 0, nil, err
	}
	d.src.most = maxBuffer
	d.src.discard(end)
	m, err := d.appendHead(1, s.pos)
	if err != nil {
		return 0, nil, err
	}
	if err := d.dec.entry(m, b[at:end], maxNesting); err != nil {
		return 0, nil, err
	}
	m.to, m.from, m.commit = s.flow.to, s.flow.from, commit
	s.pos.index++
	d.end()
	return s.flow.group, &m.msg, nil
}

// varintAt reads the varint at b[at:], and returns where it ends: -1 if there is no complete valid one, or at is -1.
func varintAt(b []byte, at int) (v uint64, end int) {
	if at < 0 {
		return 0, -1
	}
	v, n := consumeVarint(b[at:])
	if n <= 0 {
		return 0, -1
	}
	return v, at + n
}

// readVarint reads a varint.
func (r *Reader) readVarint() (uint64, error) {
	if v, n := consumeVarint(r.buf[r.r:r.w]); n > 0 {
		r.discard(n)
		return v, nil
	}
	for n := 1; ; n++ { // waits for no byte after the varint
		b, err := r.peek(n)
		if err != nil {
			return 0, err
		}
		if b[n-1] >= 0x80 && n < maxVarint {
			continue
		}
		v, k := protowire.ConsumeVarint(b)
		if k <= 0 {
			return 0, errVarint
		}
		r.discard(k)
		return v, nil
	}
}
