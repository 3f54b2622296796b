package snapshot

import "hash/crc32"

// maxCheckpoints bounds the memory of checksums.
const maxCheckpoints = 1024

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Checksums is a running CRC-32C that can go back without reading everything again. The zero value is that of nothing.
type Checksums struct {
	At   int64 // how many bytes Sum is of
	Sum  uint32
	step int64 // bytes between two of past
	past []checkpoint
}

type checkpoint struct {
	at  int64
	sum uint32
}

// Update goes on by p.
func (c *Checksums) Update(p []byte) {
	c.Sum = crc32.Update(c.Sum, castagnoli, p)
	c.At += int64(len(p))
	if c.step == 0 {
		c.step = SliceBytes
	}
	if last := len(c.past); last > 0 && c.At-c.past[last-1].at < c.step || c.At < c.step {
		return
	}
	if len(c.past) == maxCheckpoints { // keep every other
		kept := c.past[:0]
		for i := 1; i < len(c.past); i += 2 {
			kept = append(kept, c.past[i])
		}
		c.past, c.step = kept, 2*c.step
	}
	c.past = append(c.past, checkpoint{c.At, c.Sum})
}

// Back goes to the last known sum at offset or before it, unless it is there.
func (c *Checksums) Back(offset int64) {
	if c.At <= offset {
		return
	}
	for len(c.past) > 0 && c.past[len(c.past)-1].at > offset {
		c.past = c.past[:len(c.past)-1]
	}
	c.At, c.Sum = 0, 0
	if n := len(c.past); n > 0 {
		c.At, c.Sum = c.past[n-1].at, c.past[n-1].sum
	}
}
