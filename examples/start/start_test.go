package main

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

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
			log, err := openLog(t.TempDir(), owner{id, clusterID}, true)
			require.NoError(t, err)
			t.Cleanup(func() { _ = log.file.Close() })
			m, err := startMember(all, log, quiet())
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
