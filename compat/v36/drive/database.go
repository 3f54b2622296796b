package drive

import (
	"encoding/binary"
	"io"
	"math/rand/v2"
)

// Database is a generated database: Size bytes that follow from Seed. Two values that are equal have equal bytes.
type Database struct {
	Seed uint64 `json:"seed"`
	Size int64  `json:"size"`
}

// Reader returns a new reader of all bytes of d. It is for one goroutine.
func (d Database) Reader() io.Reader {
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[:], d.Seed)
	return io.LimitReader(rand.NewChaCha8(seed), d.Size)
}
