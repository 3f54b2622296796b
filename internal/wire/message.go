package wire

import (
	"encoding/binary"

	"go.etcd.io/raft/v3/raftpb"
)

// Encoder appends the frames of one stream to batches, in the order of
// writing. It is not safe for concurrent use.
type Encoder interface {
	// Append appends the frame of m. It only reads m; large data in it is referenced
	// until b is Reset.
	Append(b *Batch, m *raftpb.Message)
	// AppendLinkHeartbeat appends the frame that only shows that the link is
	// alive.
	AppendLinkHeartbeat(b *Batch)
}

// Decoder reads the frames of one stream. It is not safe for concurrent use.
type Decoder interface {
	// Decode reads one frame, and blocks until it is complete. A nil message
	// without an error is a link heartbeat. The caller owns the message.
	//
	// io.EOF means that the source ended between frames, io.ErrUnexpectedEOF that it
	// ended inside one. A SizeError, and an error that wraps ErrMalformed, are the peer's fault;
	// others are the source's. After any error the stream cannot be read further.
	Decode() (*raftpb.Message, error)
	// Memory returns MemorySize of the last message returned by Decode,
	// which was charged while it was decoded.
	Memory() int64
}

// lengthBytes is the size of the lengths and counts in a frame.
const lengthBytes = 8

type messageEncoder struct{}

// NewMessageEncoder returns an Encoder for the message stream (PROTOCOL.md,
// section 5). It has no state.
func NewMessageEncoder() Encoder { return messageEncoder{} }

func (messageEncoder) Append(b *Batch, m *raftpb.Message) { b.lengthPrefixed(m) }

func (messageEncoder) AppendLinkHeartbeat(b *Batch) { b.lengthPrefixed(linkHeartbeat) }

// linkHeartbeat is a heartbeat without From and To (PROTOCOL.md, section 7).
// It is only read.
var linkHeartbeat = &raftpb.Message{Type: raftpb.MessageType_MsgHeartbeat.Enum()}

func isLinkHeartbeat(m *raftpb.Message) bool {
	return m.GetType() == raftpb.MessageType_MsgHeartbeat && m.GetFrom() == 0 && m.GetTo() == 0
}

// lengthPrefixed appends the length of m, and m.
//
// The length is filled in after m has been appended, so
// m need not be measured before it is encoded.
func (b *Batch) lengthPrefixed(m *raftpb.Message) {
	at, refs := len(b.buf), b.refBytes
	b.buf = append(b.buf, emptyLength[:]...)
	b.buf = b.message(b.buf, m)
	b.setLength(b.buf, at, refs)
}

var emptyLength [lengthBytes]byte

// setLength fills in the length at dst[at:] of the following bytes, including data
// referenced since there were refs bytes.
func (b *Batch) setLength(dst []byte, at, refs int) {
	binary.BigEndian.PutUint64(dst[at:], uint64(len(dst)-at-lengthBytes+b.refBytes-refs))
}

type messageDecoder struct {
	stream
}

// NewMessageDecoder returns a Decoder for the message stream and for the message at the head of a snapshot body
// (PROTOCOL.md, section 5). It reads from r no further than the Reader does anyway: the bytes after a frame can be read
// from r.
func NewMessageDecoder(r *Reader, lim Limits) Decoder {
	return &messageDecoder{newStream(r, lim)}
}

func (d *messageDecoder) Decode() (*raftpb.Message, error) {
	n, err := d.src.readUint64()
	if err != nil {
		return nil, err
	}
	m, err := d.message(n)
	if err != nil || isLinkHeartbeat(m) {
		return nil, err
	}
	return m, nil
}

// readUint64 reads a big-endian integer.
func (r *Reader) readUint64() (uint64, error) {
	if r.w-r.r >= lengthBytes {
		v := binary.BigEndian.Uint64(r.buf[r.r:])
		r.r += lengthBytes
		return v, nil
	}
	b, err := r.peek(lengthBytes)
	if err != nil {
		return 0, err
	}
	r.discard(lengthBytes)
	return binary.BigEndian.Uint64(b), nil
}
