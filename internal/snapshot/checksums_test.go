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
		var c checksums
		rng := rand.New(rand.NewPCG(1, uint64(tc.chunk)))
		for range 300 {
			p := data[c.at:min(c.at+int64(tc.chunk), int64(len(data)))]
			c.update(p)
			require.Equal(t, crc32.Checksum(data[:c.at], castagnoli), c.sum)
			if rng.IntN(4) > 0 && c.at < int64(len(data)) {
				continue
			}
			offset := rng.Int64N(c.at + 1)
			c.back(offset)
			require.LessOrEqual(t, c.at, offset)
			require.Less(t, offset-c.at, int64(sliceBytes+tc.chunk), "to be read again")
			require.Equal(t, crc32.Checksum(data[:c.at], castagnoli), c.sum)
		}
	}
}

// TestChecksumsAreBounded: what is remembered of a large database does not grow with it.
func TestChecksumsAreBounded(t *testing.T) {
	var c checksums
	chunk := make([]byte, sliceBytes)
	want := uint32(0)
	sums := map[int64]uint32{0: 0}
	for range 3 * maxCheckpoints {
		c.update(chunk)
		want = crc32.Update(want, castagnoli, chunk)
		sums[c.at] = want
	}
	require.Equal(t, want, c.sum)
	require.LessOrEqual(t, len(c.past), maxCheckpoints)
	for offset := c.at; offset > 0; offset -= 100*sliceBytes + 12345 {
		c.back(offset)
		require.Less(t, offset-c.at, int64(5*sliceBytes))
		require.Equal(t, sums[c.at], c.sum)
	}
	c.back(0)
	require.Zero(t, c.at)
	require.Zero(t, c.sum)
}
