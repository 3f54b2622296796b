package wire

import (
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/encoding/protowire"
)

// Frame types of the extension groups-1 (docs/extensions.md).
const (
	groupLinkHeartbeat      = 0
	groupSlot               = 1 // gives a slot to a group, a sender and a receiver
	groupMessage            = 2 // of a slot, without From and To
	groupWholeMessage       = 3 // without a slot
	groupEntries            = 4 // entries that continue at the position of a slot
	groupHeartbeats         = 5 // rows
	groupHeartbeatResponses = 6 // rows
	groupRefusal            = 7 // of a message
)

// shortData is the size of data below which an entry is likely to take less than 128 bytes.
const shortData = 112

// GroupEncoder encodes the messages of many raft groups for one connection, or for the
// body of one POST, as the extension groups-1 specifies (docs/extensions.md). Its state
// belongs to that connection: another one needs a new GroupEncoder, and every
// batch must be written. Its memory grows with use, to at most about 1 MiB. It is not safe for
// concurrent use.
//
// Heartbeats and their responses are collected as rows of one frame for each of
// the two kinds. Until Finish, up to 128 KiB of rows are in the encoder, and not in the
// batch.
type GroupEncoder struct {
	slots      encoderSlots
	heartbeats columns
	responses  columns
	responded  groupSet // groups that have a row in responses
}

// NewGroupEncoder returns an encoder for a new connection.
func NewGroupEncoder() *GroupEncoder {
	e := new(GroupEncoder)
	e.heartbeats.hasCommit = true
	return e
}

// AppendLinkHeartbeat appends the frame that only shows that the link is alive. It
// may precede rows that were appended before.
func (e *GroupEncoder) AppendLinkHeartbeat(b *Batch) {
	b.buf = append(b.buf, groupLinkHeartbeat)
}

// Append appends m, a message of group. It only reads m; large data in it is referenced until b
// is Reset. Messages with the same group, From and To arrive in the order of the calls.
func (e *GroupEncoder) Append(b *Batch, group uint64, m *raftpb.Message) {
	switch {
	case m.GetType() != raftpb.MessageType_MsgApp && IsCoalesced(m):
		e.row(b, group, m)
	case m.From == nil || m.To == nil:
		e.Finish(b)
		b.buf = appendVarint(append(b.buf, groupWholeMessage), group)
		var sizes []int
		n := messageSize(m, &sizes)
		b.buf = b.messageFields(appendVarint(b.buf, uint64(n)), m, &sizes)
	default:
		e.Finish(b)
		number := e.slot(b, flow{group: group, from: *m.From, to: *m.To})
		e.message(b, number, m)
	}
}

// Finish appends the collected rows. It must be called after the last Append before b is
// written. It does nothing if there are none.
func (e *GroupEncoder) Finish(b *Batch) {
	if e.heartbeats.rows|e.responses.rows != 0 {
		e.appendRows(b)
	}
}

func (e *GroupEncoder) appendRows(b *Batch) {
	if e.heartbeats.rows > 0 {
		b.buf = e.heartbeats.appendFrame(append(b.buf, groupHeartbeats))
	}
	if e.responses.rows > 0 {
		b.buf = e.responses.appendFrame(append(b.buf, groupHeartbeatResponses))
		e.responded.clear()
	}
}

// Shrink releases the memory for rows if it has grown beyond a few KiB, for
// an idle connection. It must not be called between Append and Finish.
func (e *GroupEncoder) Shrink() {
	e.heartbeats.shrink()
	e.responses.shrink()
	e.responded.shrink()
}

// row appends m to the open columns.
func (e *GroupEncoder) row(b *Batch, group uint64, m *raftpb.Message) {
	if *m.Type == raftpb.MessageType_MsgHeartbeatResp {
		if !e.responses.fits(m) {
			e.Finish(b)
		}
		e.responses.add(group, m)
		e.responded.add(group)
		return
	}
	// All heartbeats precede all responses: one that follows a response of
	// its group must not overtake it.
	if !e.heartbeats.fits(m) || e.responded.has(group) {
		e.Finish(b)
	}
	e.heartbeats.add(group, m)
}

// slot returns the number of the slot of f, and defines it first if there is none.
func (e *GroupEncoder) slot(b *Batch, f flow) int {
	if number, ok := e.slots.find(f); ok {
		return number
	}
	number := e.slots.take(f)
	dst := appendVarint(append(b.buf, groupSlot), uint64(number))
	dst = appendVarint(dst, f.group)
	dst = appendVarint(dst, f.from)
	b.buf = appendVarint(dst, f.to)
	return number
}

// message appends m, whose flow has this slot.
func (e *GroupEncoder) message(b *Batch, number int, m *raftpb.Message) {
	pos := &e.slots.list[number].pos
	// Fields that the receiver would set although they are unset here are not restored.
	if pos.continues(m) && m.Term != nil && m.LogTerm != nil && m.Index != nil && m.Commit != nil {
		dst := appendVarint(append(b.buf, groupEntries), uint64(number))
		dst = appendVarint(dst, *m.Commit)
		dst = appendVarint(dst, uint64(len(m.Entries)))
		for _, entry := range m.Entries {
			dst = b.lengthAndEntry(dst, entry)
		}
		b.buf = dst
		pos.index += uint64(len(m.Entries))
		return
	}
	var sizes []int
	n := messageSize(m, &sizes) - sizeUint(m.From) - sizeUint(m.To)
	dst := appendVarint(append(b.buf, groupMessage), uint64(number))
	dst = appendVarint(dst, uint64(n))
	b.buf = b.messageRest(appendMessageHead(dst, m, nil, nil), m, &sizes)
	if m.GetType() == raftpb.MessageType_MsgApp {
		pos.after(m)
	}
}

// lengthAndEntry appends the length of e, and e.
func (b *Batch) lengthAndEntry(dst []byte, e *raftpb.Entry) []byte {
	if len(e.GetData()) < shortData {
		// It is likely that the length takes one byte: that can be filled in.
		at := len(dst)
		dst = b.entry(append(dst, 0), e)
		if n := len(dst) - at - 1; n < 0x80 {
			dst[at] = byte(n)
			return dst
		}
		dst = dst[:at]
	}
	dst = appendVarint(dst, uint64(EntrySize(e)))
	return b.entry(dst, e)
}

// IsCoalesced reports whether m becomes a row of columns: a heartbeat, or a response
// to one, of which exactly the usual fields are set.
func IsCoalesced(m *raftpb.Message) bool {
	if m.Type == nil || m.To == nil || m.From == nil || m.Term == nil {
		return false
	}
	switch *m.Type {
	case raftpb.MessageType_MsgHeartbeat:
		if m.Commit == nil {
			return false
		}
	case raftpb.MessageType_MsgHeartbeatResp:
		if m.Commit != nil {
			return false
		}
	default:
		return false
	}
	return m.Context == nil && len(m.Entries) == 0 && m.LogTerm == nil && m.Index == nil &&
		m.Snapshot == nil && m.Reject == nil && m.RejectHint == nil && m.Vote == nil &&
		len(m.Responses) == 0 && len(unknownOfMessage(m)) == 0
}

// zigzag encodes a difference: small for a small one in either direction.
func zigzag(v uint64) uint64 { return protowire.EncodeZigZag(int64(v)) }
