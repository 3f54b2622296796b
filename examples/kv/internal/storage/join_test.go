package storage_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/storage"
)

// TestJoin: entries that are saved together leave what they leave when they are saved one after the other.
func TestJoin(t *testing.T) {
	at := entries // index lo to hi in a term
	for name, saves := range map[string][2][2]uint64{
		"nothing before": {{}, {3, 4}}, "nothing after": {{3, 4}, {}}, "continued": {{3, 5}, {6, 7}},
		"the end replaced": {{3, 6}, {5, 5}}, "all replaced": {{3, 6}, {3, 4}}, "more than all replaced": {{4, 6}, {2, 3}},
	} {
		t.Run(name, func(t *testing.T) {
			apart, together := open(t, t.TempDir()), open(t, t.TempDir())
			for _, s := range []*storage.Storage{apart, together} {
				require.NoError(t, s.Log.Save(hardState(1, 1, 0), at(1, 6, 1)))
			}
			joined := at(1, 0, 0)
			for i, s := range saves {
				ents := at(s[0], s[1], uint64(i)+2)
				if s[0] == 0 {
					ents = nil
				}
				require.NoError(t, apart.Log.Save(hardState(uint64(i)+2, 1, 0), ents))
				joined = storage.Join(joined, ents)
			}
			require.NoError(t, together.Log.Save(hardState(3, 1, 0), joined))
			require.Equal(t, logText(t, apart), logText(t, together))
		})
	}
}
