package snapshot

import (
	"errors"
	"io"

	"github.com/seed-4d73690b/rafthttp/snap"
)

// verified is a database with a checksum after it, for a Saver that does not check it. It has no WriteTo, since bytes
// moved by the kernel cannot be summed up.
type verified struct {
	db     *database
	sums   checksums
	isDone bool // verify has been called
}

// Len returns how many bytes are still to come.
func (v *verified) Len() int64 { return v.db.Len() }

// Read implements io.Reader. It returns the last bytes only after the checksum was verified.
func (v *verified) Read(p []byte) (int, error) {
	if v.db.err != nil {
		return 0, v.db.err
	}
	n, err := v.db.Read(p)
	v.sums.update(p[:n])
	if v.db.remaining == 0 && (err == nil || errors.Is(err, io.EOF)) {
		if err := v.verify(); err != nil {
			return 0, err
		}
	}
	return n, err
}

// verify reads the checksum, unless that was done before.
func (v *verified) verify() error {
	if v.isDone {
		return v.db.err
	}
	v.isDone = true
	sum, err := v.db.trailer()
	if err == nil && sum != v.sums.sum {
		err = snap.ErrChecksum
		v.db.err = err
	}
	return err
}

// saveVerified saves the database by a Saver that cannot resume, from its first byte.
func (c *reception) saveVerified(saver snap.Saver) (int64, error) {
	if c.plan.Offset > 0 {
		return 0, snap.ErrOffset
	}
	v := &verified{db: c.db}
	n, err := saver.SaveDBFrom(v, c.transfer.index.Load())
	if err == nil && c.db.remaining == 0 {
		_ = v.verify() // a Saver need not read an empty one; the error is in db.err
	}
	return n, err
}
