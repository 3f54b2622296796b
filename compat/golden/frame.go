package golden

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// frames reads a stream of upstream's, record by record. It is written from the description of the protocol alone, with
// proto for the messages, plain and without any limit: the reference that our codec is held against.
type frames struct {
	r        io.Reader
	from, to uint64
	appends  bool // a msgapp v2 stream, not a message stream

	size        int    // bytes read so far
	term, index uint64 // of the msgapp v2 stream
}

// next reads one record.
func (f *frames) next() (rec Record, m *raftpb.Message, err error) {
	rec.Offset = f.size
	if f.appends {
		m, err = f.nextAppend(&rec)
	} else {
		m, err = f.message()
		rec.LinkHeartbeat = err == nil && m.GetType() == raftpb.MessageType_MsgHeartbeat && m.GetFrom() == 0 && m.GetTo() == 0
	}
	rec.Size = f.size - rec.Offset
	return rec, m, err
}

func (f *frames) nextAppend(rec *Record) (*raftpb.Message, error) {
	typ, err := f.bytes(1)
	if err != nil {
		return nil, err
	}
	rec.Type = &typ[0]
	switch typ[0] {
	case 0:
		rec.LinkHeartbeat = true
		return nil, nil
	case 1:
		return f.continuation()
	case 2:
		m, err := f.message()
		if err != nil {
			return nil, err
		}
		f.term, f.index = m.GetTerm(), m.GetIndex()
		if n := len(m.GetEntries()); n > 0 {
			f.index = m.GetEntries()[n-1].GetIndex()
		}
		return m, nil
	default:
		return nil, fmt.Errorf("record of type %d", typ[0])
	}
}

// continuation reads what follows a type byte of 1.
func (f *frames) continuation() (*raftpb.Message, error) {
	m := &raftpb.Message{
		Type: raftpb.MessageType_MsgApp.Enum(), From: &f.from, To: &f.to,
		Term: new(f.term), LogTerm: new(f.term), Index: new(f.index),
	}
	count, err := f.number()
	if err != nil {
		return nil, err
	}
	for range count {
		b, err := f.sized()
		if err != nil {
			return nil, err
		}
		e := new(raftpb.Entry)
		if err := proto.Unmarshal(b, e); err != nil {
			return nil, err
		}
		m.Entries = append(m.Entries, e)
		f.index++
	}
	commit, err := f.number()
	m.Commit = &commit
	return m, err
}

func (f *frames) message() (*raftpb.Message, error) {
	b, err := f.sized()
	if err != nil {
		return nil, err
	}
	m := new(raftpb.Message)
	return m, proto.Unmarshal(b, m)
}

func (f *frames) sized() ([]byte, error) {
	n, err := f.number()
	if err != nil {
		return nil, err
	}
	return f.bytes(int(n))
}

func (f *frames) number() (uint64, error) {
	b, err := f.bytes(8)
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(b), nil
}

func (f *frames) bytes(n int) ([]byte, error) {
	b := make([]byte, n)
	_, err := io.ReadFull(f.r, b)
	if err == nil {
		f.size += n
	}
	return b, err
}

// Messages returns the records of a stream, from its first byte, except link heartbeats, up to the last complete one.
func Messages(stream []byte, appends bool) [][]byte {
	in := &frames{r: bytes.NewReader(stream), appends: appends}
	var all [][]byte
	for {
		rec, _, err := in.next()
		if err != nil {
			return all
		}
		if !rec.LinkHeartbeat {
			all = append(all, stream[rec.Offset:rec.Offset+rec.Size])
		}
	}
}
