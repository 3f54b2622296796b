package storage

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"hash"
	"io"
	"os"
	"sync/atomic"

	"go.etcd.io/bbolt"
	"go.etcd.io/raft/v3/raftpb"
)

// SnapshotReader is a consistent copy of the data as a stream: a database file,
// from which InstallSnapshot makes the data of another member. It can go back, so
// that a transfer that breaks is resumed. While it is open writes go on, but the
// space they free is not used again, so close it.
type SnapshotReader struct {
	// Metadata says what the copy is the state of.
	Metadata *raftpb.SnapshotMetadata
	// Size is the length of the stream, in bytes.
	Size int64

	tx   *bbolt.Tx // keeps what it refers to from being overwritten
	file *os.File
	meta []byte // the first pages, which in the file go on with every write
	at   int64

	closed atomic.Bool
}

// OpenSnapshot opens a copy of the data as it is now. It does not block.
func (d *Data) OpenSnapshot() (*SnapshotReader, error) {
	d.mu.RLock()
	defer d.mu.RUnlock() // so that path and transaction are of the same file
	file, err := os.Open(d.db.Path())
	if err != nil {
		return nil, err
	}
	tx, err := d.db.Begin(false)
	if err != nil {
		file.Close()
		return nil, err
	}
	r := &SnapshotReader{tx: tx, file: file, Size: tx.Size()}
	// Read from the transaction, not from memory: the stream must say of itself
	// what the message that announces it says.
	s, err := readState(tx)
	if err == nil {
		r.Metadata = s.metadata()
		r.meta, err = metaPages(tx)
	}
	if err != nil {
		_ = r.Close()
		return nil, err
	}
	return r, nil
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

// Read implements io.Reader.
func (r *SnapshotReader) Read(p []byte) (n int, err error) {
	if r.closed.Load() {
		return 0, os.ErrClosed
	}
	if r.at >= r.Size {
		return 0, io.EOF
	}
	if r.at < int64(len(r.meta)) {
		n = copy(p, r.meta[r.at:])
	} else {
		n, err = r.file.ReadAt(p[:min(int64(len(p)), r.Size-r.at)], r.at)
	}
	r.at += int64(n)
	return n, err
}

// Seek implements io.Seeker.
func (r *SnapshotReader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += r.at
	case io.SeekEnd:
		offset += r.Size
	}
	if offset < 0 {
		return 0, errors.New("seek before the start of a snapshot")
	}
	r.at = offset
	return offset, nil
}

// Close lets the file go. It ends a Read under way.
func (r *SnapshotReader) Close() error {
	r.closed.Store(true)
	return errors.Join(r.file.Close(), r.tx.Rollback())
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
