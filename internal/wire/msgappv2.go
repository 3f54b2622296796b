package wire

import (
	"encoding/binary"
	"fmt"

	"go.etcd.io/raft/v3/raftpb"
)

// Frame types of the msgapp v2 stream (PROTOCOL.md, section 6).
const (
	frameLinkHeartbeat = 0
	frameEntries       = 1 // entries that continue at the end of the last message
	frameMessage       = 2
)

// position is the end of the last message of a msgapp v2 stream. Both ends
// track it, from (0, 0) on.
type position struct {
	term, index uint64
}

// after moves to the end of m, which was sent completely.
func (p *position) after(m *raftpb.Message) {
	p.term, p.index = m.GetTerm(), m.GetIndex()
	if n := len(m.GetEntries()); n > 0 {
		p.index = m.Entries[n-1].GetIndex()
	}
}

// continues reports whether m may be sent without its head: it is the message that the receiver expects
// next, and has no field that the receiver would not restore. The receiver sets
// From and To to the two ends of the link, and always the term, the index and the commit
// index, so that an unset one of these arrives as an explicit zero.
func (p *position) continues(m *raftpb.Message) bool {
	return m.GetType() == raftpb.MessageType_MsgApp &&
		m.GetIndex() == p.index && m.GetLogTerm() == p.term && m.GetTerm() == p.term &&
		m.Vote == nil && m.Snapshot == nil && m.Reject == nil && m.RejectHint == nil &&
		m.Context == nil && len(m.Responses) == 0 && len(unknownOfMessage(m)) == 0
}

type msgAppV2Encoder struct {
	pos position
}

// NewMsgAppV2Encoder returns an Encoder for the msgapp v2 stream (PROTOCOL.md,
// section 6). Its state belongs to one connection: a new connection needs a
// new Encoder, and every batch must be written.
func NewMsgAppV2Encoder() Encoder { return new(msgAppV2Encoder) }

func (e *msgAppV2Encoder) AppendLinkHeartbeat(b *Batch) {
	b.buf = append(b.buf, frameLinkHeartbeat)
}

func (e *msgAppV2Encoder) Append(b *Batch, m *raftpb.Message) {
	if !e.pos.continues(m) {
		b.buf = append(b.buf, frameMessage)
		b.lengthPrefixed(m)
		e.pos.after(m)
		return
	}
	dst := append(b.buf, frameEntries)
	dst = binary.BigEndian.AppendUint64(dst, uint64(len(m.Entries)))
	for _, entry := range m.Entries {
		at, refs := len(dst), b.refBytes
		dst = append(dst, emptyLength[:]...)
		dst = b.entry(dst, entry)
		b.setLength(dst, at, refs)
	}
	b.buf = binary.BigEndian.AppendUint64(dst, m.GetCommit())
	e.pos.index += uint64(len(m.Entries))
}

type msgAppV2Decoder struct {
	stream
	local, remote uint64
	pos           position
}

// NewMsgAppV2Decoder returns a Decoder for the msgapp v2 stream (PROTOCOL.md,
// section 6) from the member remote to the member local. Its state
// belongs to one connection.
func NewMsgAppV2Decoder(r *Reader, local, remote uint64, lim Limits) Decoder {
	return &msgAppV2Decoder{stream: newStream(r, lim), local: local, remote: remote}
}

func (d *msgAppV2Decoder) Decode() (*raftpb.Message, error) {
	if m, err := d.loneEntry(); m != nil || err != nil {
		return m, err
	}
	typ, err := d.src.peek(1)
	if err != nil {
		return nil, err
	}
	d.src.discard(1)
	switch typ[0] {
	case frameLinkHeartbeat:
		return nil, nil
	case frameEntries:
		m, err := d.entries()
		return m, inside(err)
	case frameMessage:
		m, err := d.wholeMessage()
		return m, inside(err)
	default:
		return nil, fmt.Errorf("%w: msgapp v2 type %d", ErrMalformed, typ[0])
	}
}

func (d *msgAppV2Decoder) wholeMessage() (*raftpb.Message, error) {
	n, err := d.src.readUint64()
	if err != nil {
		return nil, err
	}
	m, err := d.message(n)
	if err != nil {
		return nil, err
	}
	d.pos.after(m)
	if isLinkHeartbeat(m) {
		return nil, nil
	}
	return m, nil
}

// entries reads a frame of type 1, after its type.
func (d *msgAppV2Decoder) entries() (*raftpb.Message, error) {
	count, err := d.src.readUint64()
	if err != nil {
		return nil, err
	}
	size := saturated(1+2*lengthBytes, saturatedMul(count, lengthBytes))
	m, err := d.beginAppend(count, size, d.pos)
	if err != nil {
		return nil, err
	}
	defer d.end()
	m.to, m.from = d.local, d.remote
	for left := count; left > 0; left-- {
		n, err := d.src.readUint64()
		if err != nil {
			return nil, err
		}
		if size, err = d.nextEntry(m, n, left, size); err != nil {
			return nil, err
		}
	}
	commit, err := d.src.readUint64()
	if err != nil {
		return nil, err
	}
	m.commit = commit
	d.pos.index += count
	return &m.msg, nil
}

// loneEntry decodes the most common frame: one small entry that has arrived completely and
// is far from any limit. It has the effect of entries, without checking for each part
// whether it has arrived. For any other frame it reads nothing and returns a nil message.
func (d *msgAppV2Decoder) loneEntry() (*raftpb.Message, error) {
	const head = 1 + 2*lengthBytes // type, count, length of the entry
	b := d.src.buf[d.src.r:d.src.w]
	if len(b) < head || b[0] != frameEntries || binary.BigEndian.Uint64(b[1:]) != 1 {
		return nil, nil
	}
	n := binary.BigEndian.Uint64(b[1+lengthBytes:])
	size := head + n + lengthBytes
	// The first condition limits the sums.
	if n >= min(keptEntry, d.large) || size > uint64(len(b)) || messageMemory+entryMemory+n > d.limit {
		return nil, nil
	}
	d.src.discard(1 + lengthBytes)
	if err := d.begin(size); err != nil {
		return nil, err
	}
	d.src.most = maxBuffer
	d.src.discard(int(size - 1 - lengthBytes))
	m, err := d.appendHead(1, d.pos)
	if err != nil {
		return nil, err
	}
	m.to, m.from = d.local, d.remote
	if err := d.dec.entry(m, b[head:head+n], maxNesting); err != nil {
		return nil, err
	}
	m.commit = binary.BigEndian.Uint64(b[head+n:])
	d.pos.index++
	d.end()
	return &m.msg, nil
}
