package snapshot

import "hash/crc32"

// maxCheckpoints limits the memory of checksums.
const maxCheckpoints = 1024

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksums is a running CRC-32C that can go back without reading everything again. The zero value is that of no bytes.
type checksums struct {
	at   int64 // number of bytes in sum
	sum  uint32
	step int64 // bytes between two of past
	past []checkpoint
}

type checkpoint struct {
	at  int64
	sum uint32
}

// update adds p.
func (c *checksums) update(p []byte) {
	c.sum = crc32.Update(c.sum, castagnoli, p)
	c.at += int64(len(p))
	if c.step == 0 {
		c.step = sliceBytes
	}
	if last := len(c.past); last > 0 && c.at-c.past[last-1].at < c.step || c.at < c.step {
		return
	}
	if len(c.past) == maxCheckpoints { // keep every other
		kept := c.past[:0]
		for i := 1; i < len(c.past); i += 2 {
			kept = append(kept, c.past[i])
		}
		c.past, c.step = kept, 2*c.step
	}
	c.past = append(c.past, checkpoint{c.at, c.sum})
}

// back goes to the last known sum at or before offset, unless it is there already.
func (c *checksums) back(offset int64) {
	if c.at <= offset {
		return
	}
	for len(c.past) > 0 && c.past[len(c.past)-1].at > offset {
		c.past = c.past[:len(c.past)-1]
	}
	c.at, c.sum = 0, 0
	if n := len(c.past); n > 0 {
		c.at, c.sum = c.past[n-1].at, c.past[n-1].sum
	}
}
