package wire_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

// burst returns n messages of one entry, and acknowledgements between them.
func burst(n int) (ms []*raftpb.Message) {
	for i := range n {
		m := msgApp(0, uint64(i), 1, 64+i%80)
		m.Commit = new(uint64(i))
		ms = append(ms, m, &raftpb.Message{
			Type: raftpb.MsgAppResp.Enum(), From: new(uint64(1)), To: new(uint64(2)), Index: new(uint64(i)),
			Context: bytes.Repeat([]byte{byte(i)}, i%200),
		})
	}
	return ms
}

// overwrite changes all that a message owns, and appends to what can be.
func overwrite(m *raftpb.Message) {
	for _, v := range []*uint64{m.To, m.From, m.Term, m.LogTerm, m.Index, m.Commit} {
		if v != nil {
			*v = 1 << 60
		}
	}
	spoil := func(b []byte) {
		for i := range b {
			b[i] = 0xff
		}
		_ = append(b, 0xff, 0xff)
	}
	spoil(m.Context)
	for _, e := range m.Entries {
		*e.Term, *e.Index = 1<<60, 1<<60
		spoil(e.Data)
	}
	_ = append(m.Entries, &raftpb.Entry{Data: []byte("another")})
}

// TestMessagesOfABurstAreApart: whoever owns a message may change it and append to
// what is in it, although messages that came together share allocations.
func TestMessagesOfABurstAreApart(t *testing.T) {
	want := burst(500)
	for _, s := range streams {
		t.Run(s.name, func(t *testing.T) {
			d := s.decoder(bytes.NewReader(frames(t, s.encoder(), want...)), noLimits)
			var got []*raftpb.Message
			for _, m := range want {
				g, err := d.Decode()
				require.NoError(t, err)
				requireEqual(t, m, g)
				got = append(got, g)
			}
			_, err := d.Decode()
			require.ErrorIs(t, err, io.EOF)
			for i := 0; i < len(got); i += 2 {
				overwrite(got[i])
			}
			for i := 1; i < len(got); i += 2 {
				requireEqual(t, want[i], got[i])
			}
		})
	}
}

// TestBurstAllocations: messages that came together share allocations, in which
// little is left over, and one that comes alone shares with none.
func TestBurstAllocations(t *testing.T) {
	if raceEnabled || tinyBuffers {
		t.Skip("the race detector allocates; tiny sizes are not shared")
	}
	ms := burst(500)
	for _, s := range streams {
		t.Run(s.name, func(t *testing.T) {
			together := frames(t, s.encoder(), ms...)
			var size int64
			for _, m := range ms {
				size += wire.MemorySize(m)
			}
			all := func() {
				d := s.decoder(bytes.NewReader(together), noLimits)
				for range ms {
					m, err := d.Decode()
					require.NoError(t, err)
					kept = m
				}
			}
			require.Less(t, testing.AllocsPerRun(10, all), float64(len(ms))*0.7) // contexts over 128 B are not shared
			require.Less(t, float64(allocated(all)), 1.15*float64(size)+float64(600<<10))

			appends := make([]*raftpb.Message, 5000)
			for i := range appends {
				appends[i] = msgApp(0, uint64(i), 1, 64)
			}
			likeALeader := frames(t, s.encoder(), appends...)
			require.Less(t, testing.AllocsPerRun(10, func() {
				d := s.decoder(bytes.NewReader(likeALeader), noLimits)
				for range appends {
					m, err := d.Decode()
					require.NoError(t, err)
					kept = m
				}
			}), float64(len(appends))*0.3)

			alone := frames(t, s.encoder(), msgApp(0, 0, 1, 64))
			d := s.decoder(&oneByOne{alone}, noLimits)
			one := func() {
				m, err := d.Decode()
				require.NoError(t, err)
				kept = m
			}
			one()
			require.InDelta(t, 2, testing.AllocsPerRun(100, one), 0)
			require.Less(t, float64(allocated(one)), 1.25*float64(wire.MemorySize(msgApp(0, 0, 1, 64))))
		})
	}
}

// oneByOne is a source of the same bytes over and over, once with each read.
type oneByOne struct{ b []byte }

func (o *oneByOne) Read(p []byte) (int, error) { return copy(p, o.b), nil }
