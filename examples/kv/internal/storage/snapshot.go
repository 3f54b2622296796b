package storage

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"hash"
	"io"
	"os"

	"go.etcd.io/bbolt"
	"go.etcd.io/raft/v3/raftpb"
)

// Copy is the data as it was at one moment, in a file that nothing changes: a
// database, of which InstallSnapshot makes the data of another member.
type Copy struct {
	// Metadata says what the copy is the state of.
	Metadata *raftpb.SnapshotMetadata
	// Size is the length of the file, in bytes.
	Size int64
	// File stands at its begin. Whoever is done with it closes and removes it.
	File *os.File
}

// copyChunk is how much is copied between two looks at whether to go on.
const copyChunk = 16 << 20

// ErrNoRoom says that a copy would fill the disk, which the log needs too.
var ErrNoRoom = errors.New("no room on the disk for a copy of the data")

// Copy copies the data as it is now to a new file in dir. Where the file system
// can share the bytes of two files (btrfs, XFS) that takes no room and no time;
// elsewhere it is as fast as the disk. Other calls go on meanwhile, except a
// commit that outgrows the mapping of the file, which waits for the end.
func (d *Data) Copy(ctx context.Context, dir string) (c *Copy, err error) {
	tx, source, err := d.openCopy()
	if err != nil {
		return nil, err
	}
	// What the transaction refers to is not overwritten as long as it lasts.
	defer func() { _ = tx.Rollback() }()
	defer source.Close()
	f, err := os.CreateTemp(dir, "copy-*.db")
	if err != nil {
		return nil, err
	}
	c = &Copy{Size: tx.Size(), File: f}
	if c.Metadata, err = c.fill(ctx, tx, source, func() bool { return d.disk.AlmostFull(dir) }); err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	return c, nil
}

// openCopy opens the file and a transaction of it: both of the same one, which
// replace may be about to replace.
func (d *Data) openCopy() (*bbolt.Tx, *os.File, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	f, err := os.Open(d.path)
	if err != nil {
		return nil, nil, err
	}
	tx, err := d.db.Begin(false)
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return tx, f, nil
}

func (c *Copy) fill(ctx context.Context, tx *bbolt.Tx, source *os.File, noRoom func() bool) (*raftpb.SnapshotMetadata, error) {
	// Read from the transaction, not from memory: the copy must say of itself
	// what the message that announces it says.
	s, err := readState(tx)
	if err != nil {
		return nil, err
	}
	// The first pages make a database of the rest. In the file they go on with
	// every write, so they are taken from the transaction.
	meta, err := metaPages(tx)
	if err != nil {
		return nil, err
	}
	if _, err := c.File.Write(meta); err != nil {
		return nil, err
	}
	at, err := source.Seek(int64(len(meta)), io.SeekStart)
	for err == nil && at < c.Size {
		if noRoom() {
			return nil, ErrNoRoom
		}
		var n int64
		n, err = io.CopyN(c.File, source, min(copyChunk, c.Size-at)) // copy_file_range, on Linux
		at += n
		if err == nil {
			err = c.File.Sync() // or the log would wait for all of the copy when it is synced
		}
		err = errors.Join(err, ctx.Err())
	}
	if err == nil {
		_, err = c.File.Seek(0, io.SeekStart)
	}
	return s.metadata(), err
}

// metaPages returns the pages that make a database of the rest, as they are for
// the transaction.
func metaPages(tx *bbolt.Tx) ([]byte, error) {
	w := &firstBytes{left: 2 * tx.DB().Info().PageSize}
	if _, err := tx.WriteTo(w); err != nil && !errors.Is(err, errEnough) {
		return nil, err
	}
	return w.bytes, nil
}

// firstBytes takes so many bytes and no more.
type firstBytes struct {
	bytes []byte
	left  int
}

var errEnough = errors.New("these are enough")

func (w *firstBytes) Write(p []byte) (int, error) {
	n := min(len(p), w.left)
	w.bytes = append(w.bytes, p[:n]...)
	if w.left -= n; n < len(p) {
		return n, errEnough
	}
	return n, nil
}

// Digest is what two members must agree on when they have applied the same
// entries.
type Digest struct {
	Applied uint64 `json:"applied"` // index of the newest entry reflected
	Hash    string `json:"hash"`    // SHA-256 over all keys, values and members
	Keys    int    `json:"keys"`
	Bytes   int64  `json:"bytes"` // of keys and values
}

// Digest reads all data, which takes its time: about a second per gigabyte.
func (d *Data) Digest() (Digest, error) {
	d.mu.RLock()
	tx, err := d.db.Begin(false)
	d.mu.RUnlock()
	if err != nil {
		return Digest{}, err
	}
	defer func() { _ = tx.Rollback() }()
	s, err := readState(tx)
	if err != nil {
		return Digest{}, err
	}
	digest := Digest{Applied: s.position.Index}
	sum := sha256.New()
	members, err := json.Marshal(s.membership)
	if err != nil {
		return Digest{}, err
	}
	hashField(sum, members)
	err = tx.Bucket(bucketKV).ForEach(func(k, v []byte) error {
		hashField(sum, k)
		hashField(sum, v)
		digest.Keys++
		digest.Bytes += int64(len(k) + len(v))
		return nil
	})
	digest.Hash = hex.EncodeToString(sum.Sum(nil))
	return digest, err
}

func hashField(h hash.Hash, b []byte) {
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], uint64(len(b)))
	h.Write(n[:])
	h.Write(b)
}
