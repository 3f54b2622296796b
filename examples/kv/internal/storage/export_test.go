package storage

import (
	"testing"

	"github.com/stretchr/testify/require"
	bolt "go.etcd.io/bbolt"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// PutLogEntry writes one entry into a log file behind the back of Log.
func PutLogEntry(t *testing.T, path string, e *raftpb.Entry) {
	t.Helper()
	db, err := openDB(systemDisk{}, path, bolt.Options{})
	require.NoError(t, err)
	defer db.Close()
	require.NoError(t, db.Update(func(tx *bolt.Tx) error {
		v, err := proto.Marshal(e)
		if err != nil {
			return err
		}
		return tx.Bucket(bucketEntries).Put(indexKey(e.GetIndex()), v)
	}))
}

// SavedCommit is the commit index on the disk.
func SavedCommit(s *Storage) uint64 { return s.Log.savedState().GetCommit() }
