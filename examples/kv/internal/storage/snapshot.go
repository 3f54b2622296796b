package storage

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"hash"
	"io"

	"go.etcd.io/raft/v3/raftpb"
)

// SnapshotReader is a consistent copy of the data as a stream: a database file,
// from which InstallSnapshot makes the data of another member. While it is open
// writes go on, but the space they free is not used again, so close it.
type SnapshotReader struct {
	*io.PipeReader
	// Metadata says what the copy is the state of.
	Metadata *raftpb.SnapshotMetadata
	// Size is the length of the stream, in bytes.
	Size int64

	done chan struct{}
}

// OpenSnapshot starts a copy of the data as it is now. It does not block.
func (d *Data) OpenSnapshot() (*SnapshotReader, error) {
	d.mu.RLock()
	tx, err := d.db.Begin(false)
	d.mu.RUnlock()
	if err != nil {
		return nil, err
	}
	// Read from the transaction, not from memory: the stream must say of itself
	// what the message that announces it says.
	s, err := readState(tx)
	if err != nil {
		_ = tx.Rollback()
		return nil, err
	}
	pr, pw := io.Pipe()
	r := &SnapshotReader{PipeReader: pr, Metadata: s.metadata(), Size: tx.Size(), done: make(chan struct{})}
	go func() {
		defer close(r.done)
		_, err := tx.WriteTo(pw)
		_ = tx.Rollback()
		_ = pw.CloseWithError(err) // nil means io.EOF
	}()
	return r, nil
}

// Close ends the copy, finished or not, and waits until the file is let go.
func (r *SnapshotReader) Close() error {
	err := r.PipeReader.Close()
	<-r.done
	return err
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
