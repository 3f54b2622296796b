package stream

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/conn"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

// Handler receives the messages of a reader. The readers of a peer call its functions concurrently.
type Handler struct {
	// Refuse takes a message that AuthorizeMessage refuses, and why.
	Refuse func(m *raftpb.Message, cause error)
	// Receive takes messages. Appends wait up to wait for room; an error ends the stream.
	Receive func(ctx context.Context, items []queue.Item, wait time.Duration) error
}

// deliver reads messages from the stream and gives them to the handler until the stream ends.
func (r *Reader) deliver(ctx context.Context, s *incoming, to Handler) error {
	d := &delivery{reader: r, ctx: ctx, to: to}
	d.source = source{reader: r, s: s, out: d, delayAcks: conn.DelayAcks(s.conn)}
	if err := s.conn.SetWriteDeadline(time.Time{}); err != nil {
		return err
	}
	var dec wire.Decoder
	if r.Kind == MsgAppV2 {
		// A full append queue slows down the stream that carries only appends.
		d.wait = r.member.Cfg.ReadTimeout
		dec = wire.NewMsgAppV2Decoder(wire.NewReader(&d.source), uint64(r.member.Cfg.ID), uint64(r.member.RemoteID), r.member.Cfg.MessageLimits)
	} else {
		dec = wire.NewMessageDecoder(wire.NewReader(&d.source), r.member.Cfg.MessageLimits)
	}
	return d.source.ended(d.run(dec))
}

// ackReads is after how many reads the delay of acknowledgements is set again, so that it
// costs little when messages are rare, if they were at most ackBytes: TCP handles bulk
// data better.
const (
	ackReads = 32
	ackBytes = ackReads * 4 << 10
)

// source is the bytes of a connection, below a decoder. It delivers decoded messages before
// it waits for more, so that a burst costs one delivery and a single message does
// not wait for others.
type source struct {
	reader *Reader
	s      *incoming
	out    output

	delayAcks func() // nil: no
	reads     int    // since delayAcks was last considered
	brought   int    // bytes of these reads

	some bool // a message or a link heartbeat arrived
}

// output has the messages that were decoded and not delivered.
type output interface {
	waiting() int
	// flush delivers them. An error ends the stream.
	flush() error
}

// Read implements io.Reader. The read timeout without progress ends the stream.
func (d *source) Read(p []byte) (int, error) {
	lone := d.out.waiting() == 1
	if err := d.out.flush(); err != nil {
		return 0, err
	}
	if lone {
		// The goroutine that processes the messages runs first: the read below most likely
		// finds nothing, and would delay the message by two microseconds.
		runtime.Gosched()
	}
	if d.reads++; d.reads == ackReads {
		if d.delayAcks != nil && d.brought <= ackBytes {
			d.delayAcks()
		}
		d.reads, d.brought = 0, 0
	}
	n, err := d.s.body.Read(p)
	n = max(n, 0)
	d.brought += n
	d.reader.bytes.Add(uint64(n))
	return n, err
}

// frame notes that a frame was decoded.
func (d *source) frame() {
	if d.s.in.Moved(); !d.some {
		d.some = true
		d.reader.delivering()
	}
}

// ended returns the error of a stream that ended with err.
func (d *source) ended(err error) error {
	if !d.some && conn.IsTimeout(err) {
		return fmt.Errorf("the stream brought nothing, not even a link heartbeat: %w", err)
	}
	return err
}

// delivery delivers the messages of one connection.
type delivery struct {
	reader *Reader
	ctx    context.Context
	to     Handler
	wait   time.Duration // how long Process may make no progress while the append queue is full; 0: do not wait
	source source
	items  []queue.Item
}

// waiting implements output.
func (d *delivery) waiting() int { return len(d.items) }

// flush delivers decoded messages. An error ends the stream: so the sender's raft
// is told of messages that had no room.
func (d *delivery) flush() error {
	if len(d.items) == 0 {
		return nil
	}
	err := d.to.Receive(d.ctx, d.items, d.wait)
	clear(d.items)
	d.items = d.items[:0]
	return err
}

func (d *delivery) run(dec wire.Decoder) error {
	for {
		m, err := dec.Decode()
		if err != nil {
			return cmp.Or(d.flush(), err)
		}
		d.source.frame()
		if m == nil {
			continue // a link heartbeat: raft does not see it
		}
		if err := d.reader.member.Cfg.AuthorizeMessage(m, d.reader.member.RemoteID); err != nil {
			d.to.Refuse(m, err)
			continue
		}
		if d.items = append(d.items, queue.Item{Msg: m, Size: dec.Memory()}); len(d.items) == deliverMessages {
			if err := d.flush(); err != nil {
				return err
			}
		}
	}
}
