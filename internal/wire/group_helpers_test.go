package wire_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

// grouped is a message of a group; without a message it is a link heartbeat.
type grouped struct {
	group uint64
	m     *raftpb.Message
}

// flow is what the order of messages is kept for.
type flow struct{ group, from, to uint64 }

func (g grouped) flow() flow { return flow{g.group, g.m.GetFrom(), g.m.GetTo()} }

// groupFrames encodes messages for a new connection.
func groupFrames(t testing.TB, ms ...grouped) []byte {
	t.Helper()
	return appendGroupFrames(t, wire.NewGroupEncoder(), ms...)
}

// appendGroupFrames encodes messages as the next batch of a connection.
func appendGroupFrames(t testing.TB, enc *wire.GroupEncoder, ms ...grouped) []byte {
	t.Helper()
	var b wire.Batch
	for _, g := range ms {
		if g.m == nil {
			enc.AppendLinkHeartbeat(&b)
			continue
		}
		enc.Append(&b, g.group, g.m)
	}
	enc.Finish(&b)
	var buf bytes.Buffer
	_, err := b.WriteTo(&buf)
	require.NoError(t, err)
	require.Equal(t, b.Len(), buf.Len())
	return buf.Bytes()
}

// groupDecoder is the part of a wire.GroupDecoder that a plain one has as well.
type groupDecoder interface {
	Decode() (uint64, *raftpb.Message, error)
}

func decodeGroups(d groupDecoder) (got []grouped, err error) {
	for {
		group, m, err := d.Decode()
		if err != nil {
			return got, err
		}
		got = append(got, grouped{group, m})
	}
}

func newGroupDecoder(r io.Reader, lim wire.Limits) *wire.GroupDecoder {
	return wire.NewGroupDecoder(reader(r), lim)
}

func requireSameGroups(t testing.TB, want, got []grouped) {
	t.Helper()
	require.Len(t, got, len(want))
	for i, w := range want {
		require.Equal(t, w.group, got[i].group, "message %d", i)
		require.Equal(t, w.m == nil, got[i].m == nil, "message %d", i)
		if w.m != nil {
			requireEqual(t, w.m, got[i].m)
		}
	}
}

// requireSameFlows compares the messages of each flow, in order, and the number of link heartbeats.
func requireSameFlows(t testing.TB, want, got []grouped) {
	t.Helper()
	sort := func(ms []grouped) (map[flow][]*raftpb.Message, int) {
		flows, links := map[flow][]*raftpb.Message{}, 0
		for _, g := range ms {
			if g.m == nil {
				links++
				continue
			}
			flows[g.flow()] = append(flows[g.flow()], g.m)
		}
		return flows, links
	}
	wantFlows, wantLinks := sort(want)
	gotFlows, gotLinks := sort(got)
	require.Equal(t, wantLinks, gotLinks)
	require.Len(t, gotFlows, len(wantFlows))
	for f, ms := range wantFlows {
		require.Len(t, gotFlows[f], len(ms), "%+v", f)
		for i, m := range ms {
			requireEqual(t, m, gotFlows[f][i])
		}
	}
}

func groupHeartbeat(from, to, term, commit uint64) *raftpb.Message {
	return &raftpb.Message{
		Type: raftpb.MsgHeartbeat.Enum(), From: new(from), To: new(to), Term: new(term), Commit: new(commit),
	}
}

func groupResponse(from, to, term uint64) *raftpb.Message {
	return &raftpb.Message{Type: raftpb.MsgHeartbeatResp.Enum(), From: new(from), To: new(to), Term: new(term)}
}

// canonical returns m as proto makes it out of its own bytes: nil elements of lists are empty ones.
func canonical(t testing.TB, m *raftpb.Message) *raftpb.Message {
	t.Helper()
	c := &raftpb.Message{}
	require.NoError(t, proto.Unmarshal(marshal(t, m), c))
	return c
}

// randomGroups returns what many groups send, with a few flows for each, so that appends continue, responses and
// heartbeats of a flow mix, and every field may be there or not.
func randomGroups(t testing.TB, rng *rand.Rand, n, groups int) (ms []grouped) {
	t.Helper()
	ends := map[flow]*raftpb.Message{}
	for len(ms) < n {
		f := flow{rng.Uint64N(uint64(groups)), 1 + rng.Uint64N(2), 1 + rng.Uint64N(2)}
		var m *raftpb.Message
		switch k := rng.IntN(20); {
		case k == 0:
			ms = append(ms, grouped{})
			continue
		case k < 6:
			m = groupHeartbeat(f.from, f.to, 5+rng.Uint64N(2), randomUint(rng))
		case k < 11:
			m = groupResponse(f.from, f.to, 5+rng.Uint64N(2))
		case k < 17:
			m = nextAppend(rng, ends[f], f)
			ends[f] = m
		default:
			m = randomMessage(rng)
		}
		if rng.IntN(8) == 0 {
			change(rng, m)
		}
		ms = append(ms, grouped{f.group, canonical(t, m)})
	}
	return ms
}

// nextAppend returns the MsgApp after last.
func nextAppend(rng *rand.Rand, last *raftpb.Message, f flow) *raftpb.Message {
	term, index := uint64(5), uint64(10)
	if last != nil {
		term, index = last.GetTerm(), last.GetIndex()+uint64(len(last.GetEntries()))
	}
	m := msgApp(term, index, rng.IntN(4), []int{0, 5, 100, 1500}[rng.IntN(4)])
	m.From, m.To = new(f.from), new(f.to)
	return m
}

// change sets one field of m to another value, or removes it.
func change(rng *rand.Rand, m *raftpb.Message) {
	r := m.ProtoReflect()
	fields := r.Descriptor().Fields()
	fd := fields.Get(rng.IntN(fields.Len()))
	switch {
	case rng.IntN(2) == 0:
		r.Clear(fd)
	case rng.IntN(fields.Len()) == 0:
		r.SetUnknown(uintField(300, 300))
	case fd.IsList() || fd.Message() != nil:
		r.Set(fd, r.NewField(fd)) // there, and empty
	default:
		r.Set(fd, scalar(rng, fd))
	}
}

// plainGroups decodes the frames in the plainest way, from memory.
type plainGroups struct {
	b     []byte
	slots map[uint64]*plainSlot
	rows  []grouped
}

type plainSlot struct {
	flow
	term, index uint64
}

func (d *plainGroups) varint() uint64 {
	v, n := protowire.ConsumeVarint(d.b)
	if n < 0 {
		panic(protowire.ParseError(n))
	}
	d.b = d.b[n:]
	return v
}

func (d *plainGroups) bytes() []byte {
	n := d.varint()
	if n > 512<<20 {
		panic(wire.ErrExceedSizeLimit)
	}
	if n > uint64(len(d.b)) {
		panic(io.ErrUnexpectedEOF)
	}
	p := d.b[:n]
	d.b = d.b[n:]
	return p
}

func (d *plainGroups) slot() *plainSlot {
	s := d.slots[d.varint()]
	if s == nil {
		panic(wire.ErrMalformed)
	}
	return s
}

func (d *plainGroups) message(m proto.Message) {
	if proto.Unmarshal(d.bytes(), m) != nil {
		panic(wire.ErrMalformed)
	}
}

func (d *plainGroups) Decode() (group uint64, m *raftpb.Message, err error) {
	defer func() {
		if r := recover(); r != nil {
			group, m = 0, nil
			switch e := r.(error); {
			case errors.Is(e, io.ErrUnexpectedEOF), errors.Is(e, wire.ErrExceedSizeLimit):
				err = e
			default:
				err = wire.ErrMalformed
			}
		}
	}()
	for len(d.rows) == 0 {
		if len(d.b) == 0 {
			return 0, nil, io.EOF
		}
		typ := d.b[0]
		d.b = d.b[1:]
		m := &raftpb.Message{}
		switch typ {
		case 0:
			return 0, nil, nil
		case 1:
			d.define()
		case 2:
			s := d.slot()
			d.message(m)
			if m.From != nil || m.To != nil {
				panic(wire.ErrMalformed)
			}
			if m.From, m.To = new(s.from), new(s.to); m.GetType() == raftpb.MsgApp {
				s.term, s.index = m.GetTerm(), m.GetIndex()
				if n := len(m.Entries); n > 0 {
					s.index = m.Entries[n-1].GetIndex()
				}
			}
			return s.group, m, nil
		case 3:
			group := d.varint()
			d.message(m)
			return group, m, nil
		case 4:
			return d.entries()
		case 5, 6:
			d.columns(typ == 5)
		case 7:
			for range 4 {
				d.varint()
			}
			return 0, nil, nil
		default:
			panic(wire.ErrMalformed)
		}
	}
	g := d.rows[0]
	d.rows = d.rows[1:]
	return g.group, g.m, nil
}

func (d *plainGroups) define() {
	var v [4]uint64
	for i := range v {
		v[i] = d.varint()
	}
	if v[0] >= 4096 {
		panic(wire.ErrMalformed)
	}
	if d.slots == nil {
		d.slots = map[uint64]*plainSlot{}
	}
	d.slots[v[0]] = &plainSlot{flow: flow{v[1], v[2], v[3]}}
}

func (d *plainGroups) entries() (uint64, *raftpb.Message, error) {
	s := d.slot()
	m := msgApp(s.term, s.index, 0, 0)
	m.From, m.To, m.Commit = new(s.from), new(s.to), new(d.varint())
	count := d.varint()
	empty := wire.MemorySize(msgApp(0, 0, 1, 0)) - wire.MemorySize(msgApp(0, 0, 0, 0))
	if count > 512<<20/uint64(empty) {
		panic(wire.ErrExceedSizeLimit)
	}
	for range count {
		e := &raftpb.Entry{}
		d.message(e)
		m.Entries = append(m.Entries, e)
	}
	s.index += count
	return s.group, m, nil
}

func (d *plainGroups) columns(heartbeats bool) {
	n := d.varint()
	if n > 64<<10 {
		panic(wire.ErrMalformed)
	}
	if n > uint64(len(d.b)) {
		panic(io.ErrUnexpectedEOF)
	}
	p := plainGroups{b: d.b[:n]}
	d.b = d.b[n:]
	count := p.varint()
	if count == 0 || count > n || p.b[0] > 7 {
		panic(wire.ErrMalformed)
	}
	flags := p.b[0]
	p.b = p.b[1:]
	column := func(same, deltas bool) []uint64 {
		values := make([]uint64, count)
		last := uint64(0)
		for i := range values {
			switch {
			case same && i > 0:
			case same || !deltas:
				last = p.varint()
			default:
				last += uint64(protowire.DecodeZigZag(p.varint()))
			}
			values[i] = last
		}
		return values
	}
	groups := column(false, true)
	from, to, term := column(flags&1 != 0, true), column(flags&2 != 0, true), column(flags&4 != 0, true)
	commit := make([]uint64, count)
	if heartbeats {
		commit = column(false, false)
	}
	if len(p.b) > 0 {
		panic(wire.ErrMalformed)
	}
	for i, group := range groups {
		m := groupResponse(from[i], to[i], term[i])
		if heartbeats {
			m = groupHeartbeat(from[i], to[i], term[i], commit[i])
		}
		d.rows = append(d.rows, grouped{group, m})
	}
}

// checkGroups compares the decoder, with its thresholds set to make it take each of its ways, with a
// plain one of the same bytes, and returns what came of them.
func checkGroups(t testing.TB, b []byte) []grouped {
	t.Helper()
	want, wantErr := decodeGroups(&plainGroups{b: b})
	for _, large := range []uint64{0, 16, 4096} {
		d := newGroupDecoder(iotest.HalfReader(bytes.NewReader(b)), noLimits)
		wire.TakeGroupsApart(d, large)
		got, err := decodeGroups(d)
		requireSameGroups(t, want, got)
		switch {
		case errors.Is(wantErr, io.ErrUnexpectedEOF):
			// A frame that is cut may be seen to be bad before that.
			require.True(t, err == io.ErrUnexpectedEOF || errors.Is(err, wire.ErrMalformed) || errors.Is(err, wire.ErrExceedSizeLimit), "%v", err)
		case wantErr == io.EOF:
			require.Equal(t, io.EOF, err)
		default:
			require.ErrorIs(t, err, wantErr)
		}
	}
	return want
}
