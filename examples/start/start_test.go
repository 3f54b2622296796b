package main

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/memnet/rafttest"
)

// A leader that is cut off is replaced by the two others, and catches up once it is back. Two minutes pass in
// milliseconds.
func TestLeaderIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := rafttest.New(t, rafttest.Config{Members: 3})
		all := []uint64{1, 2, 3}
		members := map[uint64]*member{}
		for _, id := range all {
			log, err := openLog(t.TempDir())
			require.NoError(t, err)
			m, err := startMember(id, all, log, quiet())
			require.NoError(t, err)
			members[id] = m
			go func() { _ = m.run(t.Context(), c.Start(id, m).Transport) }()
		}
		require.NoError(t, members[1].put(t.Context(), "color", "red")) // waits for the first leader

		leader := members[1].Status().Lead
		others := []uint64{leader%3 + 1, (leader+1)%3 + 1}
		c.Partition([]uint64{leader}, others)
		time.Sleep(time.Minute)
		require.NoError(t, members[others[0]].put(t.Context(), "color", "blue"))
		require.Equal(t, "red", color(members[leader]))

		c.Heal()
		time.Sleep(time.Minute)
		for _, m := range members {
			require.Equal(t, "blue", color(m))
		}
	})
}

func color(m *member) string {
	value, _ := m.get("color")
	return value
}

// What was saved is there after a crash; a record that a crash cut off is not, and does no harm.
func TestLogSurvives(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "raft.log")
	entry := func(index uint64, data string) *raftpb.Entry {
		return &raftpb.Entry{Index: &index, Term: new(uint64(1)), Data: []byte(data)}
	}
	log, err := openLog(dir)
	require.NoError(t, err)
	require.NoError(t, log.save(raft.Ready{
		HardState: &raftpb.HardState{Term: new(uint64(1)), Vote: new(uint64(2)), Commit: new(uint64(1))},
		Entries:   []*raftpb.Entry{entry(1, "one"), entry(2, "two")}, MustSync: true,
	}))
	require.NoError(t, log.save(raft.Ready{Entries: []*raftpb.Entry{entry(2, "another two")}, MustSync: true}))
	require.NoError(t, log.file.Close())
	whole, err := os.ReadFile(path)
	require.NoError(t, err)

	for name, c := range map[string]struct {
		file []byte
		want []string
		err  error
	}{
		"whole":          {whole, []string{"one", "another two"}, nil},
		"cut off":        {whole[:len(whole)-3], []string{"one", "two"}, nil},
		"cut in a head":  {append(whole[:len(whole):len(whole)], 0, 0, 0), []string{"one", "another two"}, nil},
		"end overwrites": {flip(whole, len(whole)-1), []string{"one", "two"}, nil},
		"corrupt":        {flip(whole, headSize+3), nil, errCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, os.WriteFile(path, c.file, 0o600))
			log, err := openLog(dir)
			require.ErrorIs(t, err, c.err)
			if c.err != nil {
				return
			}
			defer log.file.Close()
			entries, err := log.Entries(1, 3, 1<<20)
			require.NoError(t, err)
			require.Equal(t, c.want, []string{string(entries[0].Data), string(entries[1].Data)})
			state, _, err := log.InitialState()
			require.NoError(t, err)
			require.EqualValues(t, 2, state.GetVote())
		})
	}
}

// flip returns a copy of b in which one byte differs.
func flip(b []byte, i int) []byte {
	b = append([]byte(nil), b...)
	b[i] ^= 1
	return b
}
