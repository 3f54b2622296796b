package wire

import (
	"fmt"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/encoding/protowire"
)

var errColumns = fmt.Errorf("%w: groups-1 columns", ErrMalformed)

// rowChunk is how many rows share an allocation: those of an allocation of 4 KiB.
const rowChunk = 17

// rowBlock is a messageBlock for a heartbeat or a response to one.
type rowBlock struct {
	msg                    raftpb.Message
	to, from, term, commit uint64
	typ                    raftpb.MessageType
}

// rows are the rows of a frame that were not returned yet.
type rows struct {
	payload   []byte // in the buffer of the Reader: nothing is read before the last row is returned
	left      int
	heartbeat bool
	group     rowColumn
	from      rowColumn
	to        rowColumn
	term      rowColumn
	commit    int // where the next is in payload
	blocks    []rowBlock
}

// rowColumn is a place in a column.
type rowColumn struct {
	last uint64
	at   int // where the next is in payload; 0: all are the same
}

// columns reads a frame of columns, after its type.
func (d *GroupDecoder) columns(heartbeat bool) error {
	n, err := d.src.readVarint()
	if err != nil {
		return err
	}
	if n > maxPayload {
		return errColumns
	}
	if err := d.begin(0); err != nil { // the frame has a limit of its own, and each row is a message
		return err
	}
	if err := d.dec.charge(messageMemory); err != nil { // for each row
		return err
	}
	payload, err := d.collect(n)
	if err != nil {
		return err
	}
	if err := d.rows.open(payload, heartbeat); err != nil || d.dec.reserve == nil {
		return err
	}
	if err := d.dec.useReserved(uint64(d.rows.left) * messageMemory); err != nil {
		d.rows = rows{}
		return err
	}
	return nil
}

// open checks the payload completely, so that reading a row cannot fail.
func (r *rows) open(payload []byte, heartbeat bool) error {
	count, at := varintAt(payload, 0)
	// Each row has a byte in the column of the group at least.
	if at < 0 || count == 0 || count > uint64(len(payload)) || at == len(payload) {
		return errColumns
	}
	flags := payload[at]
	if flags > allFlags {
		return errColumns
	}
	rows := int(count)
	at = r.group.open(payload, at+1, rows, false)
	at = r.from.open(payload, at, rows, flags&sameFrom != 0)
	at = r.to.open(payload, at, rows, flags&sameTo != 0)
	at = r.term.open(payload, at, rows, flags&sameTerm != 0)
	if r.commit = at; heartbeat {
		at = skipVarints(payload, at, rows)
	}
	if at != len(payload) {
		return errColumns
	}
	r.payload, r.left, r.heartbeat = payload, rows, heartbeat
	return nil
}

// open begins the column at payload[at:], and returns where it ends: -1 if it is malformed.
func (c *rowColumn) open(payload []byte, at, rows int, same bool) (end int) {
	if same {
		c.at = 0
		c.last, end = varintAt(payload, at)
		return end
	}
	c.at, c.last = at, 0
	return skipVarints(payload, at, rows)
}

// skipVarints returns where n varints at b[at:] end, or -1 if they are malformed, or at is -1.
func skipVarints(b []byte, at, n int) int {
	if at < 0 {
		return -1
	}
	for range n {
		if at < len(b) && b[at] < 0x80 {
			at++
			continue
		}
		_, k := protowire.ConsumeVarint(b[at:])
		if k <= 0 {
			return -1
		}
		at += k
	}
	return at
}

// row returns the next row.
func (d *GroupDecoder) row() (uint64, *raftpb.Message) {
	r := &d.rows
	if len(r.blocks) == 0 {
		r.blocks = make([]rowBlock, min(r.left, rowChunk))
	}
	b := &r.blocks[0]
	r.blocks = r.blocks[1:]
	r.left--
	group := r.group.next(r.payload)
	b.from, b.to, b.term = r.from.next(r.payload), r.to.next(r.payload), r.term.next(r.payload)
	b.msg.Type, b.msg.To, b.msg.From, b.msg.Term = &b.typ, &b.to, &b.from, &b.term
	if b.typ = raftpb.MessageType_MsgHeartbeatResp; r.heartbeat {
		b.typ = raftpb.MessageType_MsgHeartbeat
		b.commit, r.commit = varintAt(r.payload, r.commit)
		b.msg.Commit = &b.commit
	}
	if r.left == 0 {
		r.payload, r.blocks = nil, nil
	}
	return group, &b.msg
}

func (c *rowColumn) next(payload []byte) uint64 {
	if c.at > 0 {
		v, n := consumeVarint(payload[c.at:])
		c.at += n
		c.last += uint64(protowire.DecodeZigZag(v))
	}
	return c.last
}
