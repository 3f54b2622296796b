package snapshot

import (
	"hash/crc32"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestChecksums: the sum is that of the bytes that were taken in, also after going back, and little is to be read again.
func TestChecksums(t *testing.T) {
	for _, tc := range []struct{ chunk, chunks int }{{256 << 10, 40}, {1000, 100}, {8 << 20, 3}} {
		data := make([]byte, tc.chunk*tc.chunks)
		for i := range data {
			data[i] = byte(i * i >> 7)
		}
		var c Checksums
		rng := rand.New(rand.NewPCG(1, uint64(tc.chunk)))
		for range 300 {
			p := data[c.At:min(c.At+int64(tc.chunk), int64(len(data)))]
			c.Update(p)
			require.Equal(t, crc32.Checksum(data[:c.At], castagnoli), c.Sum)
			if rng.IntN(4) > 0 && c.At < int64(len(data)) {
				continue
			}
			offset := rng.Int64N(c.At + 1)
			c.Back(offset)
			require.LessOrEqual(t, c.At, offset)
			require.Less(t, offset-c.At, int64(SliceBytes+tc.chunk), "to be read again")
			require.Equal(t, crc32.Checksum(data[:c.At], castagnoli), c.Sum)
		}
	}
}

// TestChecksumsAreBounded: what is remembered of a large database does not grow with it.
func TestChecksumsAreBounded(t *testing.T) {
	var c Checksums
	chunk := make([]byte, SliceBytes)
	want := uint32(0)
	sums := map[int64]uint32{0: 0}
	for range 3 * maxCheckpoints {
		c.Update(chunk)
		want = crc32.Update(want, castagnoli, chunk)
		sums[c.At] = want
	}
	require.Equal(t, want, c.Sum)
	require.LessOrEqual(t, len(c.past), maxCheckpoints)
	for offset := c.At; offset > 0; offset -= 100*SliceBytes + 12345 {
		c.Back(offset)
		require.Less(t, offset-c.At, int64(5*SliceBytes))
		require.Equal(t, sums[c.At], c.Sum)
	}
	c.Back(0)
	require.Zero(t, c.At)
	require.Zero(t, c.Sum)
}
