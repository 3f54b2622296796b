package wire_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

func FuzzMessageDecode(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 30 {
		m := &raftpb.Message{}
		fill(rng, m.ProtoReflect(), 0.5, 2)
		if b := marshal(f, m); len(b) < 2000 {
			f.Add(b)
		}
	}
	f.Add(nest(20, field(7, uintField(2, 1))))
	f.Add(confState(field(1, []byte{1, 2, 0x83, 0x01}), uintField(2, 5)))
	f.Add([]byte{0xa3, 0x06, 0x08, 0x05, 0xa4, 0x06})
	f.Fuzz(checkDecode)
}

func FuzzEntryDecode(f *testing.F) {
	f.Add(marshal(f, normal(5, 11, []byte("abc"))))
	f.Add([]byte{0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0x22, 0x00})
	f.Add([]byte{0xa3, 0x06, 0x08, 0x05, 0xa4, 0x06})
	f.Fuzz(func(t *testing.T, b []byte) {
		want := &raftpb.Entry{}
		wantErr := proto.Unmarshal(b, want)
		got, err := wire.UnmarshalEntry(b, noLimits)
		if wantErr != nil {
			require.ErrorIs(t, err, wire.ErrMalformed)
			return
		}
		require.NoError(t, err)
		require.True(t, proto.Equal(want, got))
		require.True(t, bytes.Equal(marshal(t, want), wire.AppendEntry(nil, got)))
		require.Equal(t, len(marshal(t, want)), wire.EntrySize(got))
	})
}

// FuzzMessageRoundTrip takes what proto decodes for a message, and proves that ours
// encodes it as proto does.
func FuzzMessageRoundTrip(f *testing.F) {
	rng := rand.New(rand.NewPCG(2, 2))
	for range 30 {
		m := &raftpb.Message{}
		fill(rng, m.ProtoReflect(), 0.5, 2)
		if b := marshal(f, m); len(b) < 2000 {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m := &raftpb.Message{}
		if proto.Unmarshal(b, m) == nil {
			checkMessage(t, m)
		}
	})
}

// FuzzMsgAppV2Decode compares the decoder with a plain one, and encodes again what came of
// it.
func FuzzMsgAppV2Decode(f *testing.F) {
	f.Add(golden(f, "msgappv2.hex"))
	f.Add(frames(f, wire.NewMsgAppV2Encoder(), msgApp(1, 0, 2, 5), nil, msgApp(1, 2, 3, 5), msgApp(2, 5, 0, 0), msgApp(2, 5, 1, 1)))
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzzStream(t, streams[1], &plainMsgAppV2{b: b}, b)
	})
}

func FuzzMessageStream(f *testing.F) {
	for _, g := range goldenStreams[:4] {
		f.Add(golden(f, g.file))
	}
	f.Add(frames(f, wire.NewMessageEncoder(), msgApp(1, 0, 2, 5), nil, msgApp(1, 2, 3, 5)))
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzzStream(t, streams[0], &plainMessages{b: b}, b)
	})
}

// fuzzStream compares the decoder of s, with its thresholds set to make it take each of its
// ways, with a plain one of the same bytes.
func fuzzStream(t *testing.T, s stream, plain frameDecoder, b []byte) {
	want, wantErr := decodeAll(plain)
	for _, large := range []uint64{0, 16, 4096} {
		d := s.decoder(iotest.HalfReader(bytes.NewReader(b)), noLimits)
		wire.TakeApart(d, large)
		got, err := decodeAll(d)
		require.Len(t, got, len(want))
		for i := range want {
			require.Equal(t, want[i] == nil, got[i] == nil)
			requireEqual(t, want[i], got[i])
		}
		switch {
		case wantErr == io.ErrUnexpectedEOF:
			// A frame that is cut may be seen to be bad before that.
			require.True(t, err == io.ErrUnexpectedEOF || errors.Is(err, wire.ErrMalformed) || errors.Is(err, wire.ErrExceedSizeLimit), "%v", err)
		case wantErr == io.EOF:
			require.Equal(t, io.EOF, err)
		default:
			require.ErrorIs(t, err, wantErr)
		}
	}
	again, err := decodeAll(s.decoder(bytes.NewReader(frames(t, s.encoder(), want...)), noLimits))
	require.Equal(t, io.EOF, err)
	require.Len(t, again, len(want))
	for i, m := range want {
		require.Equal(t, m == nil, again[i] == nil)
		if s.name == "message" || m == nil {
			requireEqual(t, m, again[i])
			continue
		}
		// A message that goes as type 1 arrives with all of these, and from the peer.
		require.Equal(t, m.GetCommit(), again[i].GetCommit())
		require.Equal(t, m.GetTerm(), again[i].GetTerm())
		require.Equal(t, m.GetLogTerm(), again[i].GetLogTerm())
		require.Equal(t, m.GetIndex(), again[i].GetIndex())
		m.Commit, m.Term, m.LogTerm, m.Index = again[i].Commit, again[i].Term, again[i].LogTerm, again[i].Index
		if !proto.Equal(m, again[i]) {
			m.From, m.To = proto.Uint64(1), proto.Uint64(2)
		}
		requireEqual(t, m, again[i])
	}
}

// plainMessages decodes the message stream in the plainest way, from memory.
type plainMessages struct{ b []byte }

// take returns the next n bytes.
func take(b *[]byte, n uint64) ([]byte, error) {
	if n > 512<<20 {
		return nil, wire.ErrExceedSizeLimit
	}
	if n > uint64(len(*b)) {
		return nil, io.ErrUnexpectedEOF
	}
	p := (*b)[:n]
	*b = (*b)[n:]
	return p, nil
}

func takeUint64(b *[]byte) (uint64, error) {
	p, err := take(b, 8)
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(p), nil
}

// takeProto decodes a length and as many bytes into m.
func takeProto(b *[]byte, m proto.Message) error {
	n, err := takeUint64(b)
	if err != nil {
		return err
	}
	p, err := take(b, n)
	if err != nil {
		return err
	}
	if proto.Unmarshal(p, m) != nil {
		return wire.ErrMalformed
	}
	return nil
}

// takeMessage is takeProto for a message; a link heartbeat is nil.
func takeMessage(b *[]byte) (m *raftpb.Message, heartbeat bool, err error) {
	m = &raftpb.Message{}
	if err := takeProto(b, m); err != nil {
		return nil, false, err
	}
	return m, m.GetType() == raftpb.MessageType_MsgHeartbeat && m.GetFrom() == 0 && m.GetTo() == 0, nil
}

func (d *plainMessages) Decode() (*raftpb.Message, error) {
	if len(d.b) == 0 {
		return nil, io.EOF
	}
	m, heartbeat, err := takeMessage(&d.b)
	if heartbeat {
		return nil, err
	}
	return m, err
}

// plainMsgAppV2 decodes the msgapp v2 stream in the plainest way, from memory.
type plainMsgAppV2 struct {
	b           []byte
	term, index uint64
}

func (d *plainMsgAppV2) Decode() (*raftpb.Message, error) {
	if len(d.b) == 0 {
		return nil, io.EOF
	}
	typ, _ := take(&d.b, 1)
	switch typ[0] {
	case 0:
		return nil, nil
	case 1:
		return d.entries()
	case 2:
		m, heartbeat, err := takeMessage(&d.b)
		if err != nil {
			return nil, err
		}
		d.term, d.index = m.GetTerm(), m.GetIndex()
		if n := len(m.GetEntries()); n > 0 {
			d.index = m.Entries[n-1].GetIndex()
		}
		if heartbeat {
			return nil, nil
		}
		return m, nil
	}
	return nil, wire.ErrMalformed
}

func (d *plainMsgAppV2) entries() (*raftpb.Message, error) {
	m := msgApp(d.term, d.index, 0, 0)
	count, err := takeUint64(&d.b)
	if err != nil {
		return nil, err
	}
	empty := wire.MemorySize(msgApp(0, 0, 1, 0)) - wire.MemorySize(msgApp(0, 0, 0, 0))
	if count > 512<<20/uint64(empty) {
		return nil, wire.ErrExceedSizeLimit
	}
	for range count {
		e := &raftpb.Entry{}
		if err := takeProto(&d.b, e); err != nil {
			return nil, err
		}
		m.Entries = append(m.Entries, e)
	}
	commit, err := takeUint64(&d.b)
	if err != nil {
		return nil, err
	}
	m.Commit = &commit
	d.index += count
	return m, nil
}

// FuzzGroupDecode compares the decoder with a plain one, and encodes again what came of
// it: it comes back in order in each flow.
func FuzzGroupDecode(f *testing.F) {
	f.Add(golden(f, "groups.hex"))
	f.Add(groupFrames(f, grouped{1, msgApp(1, 0, 2, 5)}, grouped{2, msgApp(1, 0, 1, 5)}, grouped{}, grouped{1, msgApp(1, 2, 3, 5)}))
	f.Add([]byte{5, 12, 2, 0, 1, 2, 2, 0, 4, 0, 6, 0, 4, 5})
	f.Add([]byte{7, 0, 0, 0, 0, 7, 1, 1, 2, 3, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		got := checkGroups(t, b)
		requireSameFlows(t, got, checkGroups(t, groupFrames(t, got...)))
	})
}

// FuzzGroupRoundTrip has many groups send what a seed makes, in batches: it all comes out, in order in each flow. A limit
// for messages skips those over it, and the appends that continue after them.
func FuzzGroupRoundTrip(f *testing.F) {
	f.Add(uint64(1), uint16(100), uint16(3), uint16(7), uint32(0))
	f.Add(uint64(2), uint16(400), uint16(300), uint16(1), uint32(0))
	f.Add(uint64(3), uint16(50), uint16(1), uint16(50), uint32(600))
	f.Fuzz(func(t *testing.T, seed uint64, n, groups, batch uint16, limit uint32) {
		want := randomGroups(t, rand.New(rand.NewPCG(seed, 0)), int(n%1000), 1+int(groups))
		enc := wire.NewGroupEncoder()
		var b []byte
		for rest := want; len(rest) > 0; {
			k := min(1+int(batch), len(rest))
			b = append(b, appendGroupFrames(t, enc, rest[:k]...)...)
			rest = rest[k:]
		}
		got := checkGroups(t, b)
		requireSameFlows(t, want, got)
		requireLimited(t, got, newGroupDecoder(bytes.NewReader(b), wire.Limits{MaxMessageBytes: uint64(limit)}), uint64(limit))
	})
}
