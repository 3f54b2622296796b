package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/fileutil"
	"go.etcd.io/raft/v3"
)

// A log belongs to one process, such as one of two members that are started with the default of -data: what one saves would
// take the vote of the other away.
func TestLogOfAnotherProcess(t *testing.T) {
	withoutSync(t)
	dir := t.TempDir()
	one, err := openLog(dir, member1, true)
	require.NoError(t, err)
	require.NoError(t, one.save(ready(1, 5)))
	for _, found := range []bool{false, true} {
		_, err = openLog(dir, member1, found)
		require.ErrorIs(t, err, fileutil.ErrLocked)
		require.ErrorContains(t, err, filepath.Join(dir, "raft.log"))
	}
	require.NoError(t, one.save(ready(2, 5)), "it goes on")
	require.NoError(t, one.file.Close())
	two, err := openLog(dir, member1, false)
	require.NoError(t, err)
	defer two.file.Close()
	entries, vote := contents(t, two)
	require.Equal(t, []string{"1/5", "2/5"}, entries)
	require.EqualValues(t, 7, vote)
}

// A log belongs to one member of one cluster. Another one does not go on with it, also where only its owner is known yet.
func TestLogOfAnotherMember(t *testing.T) {
	withoutSync(t)
	for _, saves := range [][]raft.Ready{nil, {ready(1, 5)}} {
		file, _ := writeLog(t, saves...)
		path := filepath.Join(t.TempDir(), "raft.log")
		require.NoError(t, os.WriteFile(path, file, 0o600))
		for _, other := range []owner{{Member: 2, Cluster: clusterID}, {Member: 1, Cluster: clusterID + 1}} {
			for _, found := range []bool{false, true} {
				_, err := openLog(filepath.Dir(path), other, found)
				require.ErrorContains(t, err, path+": it is the log of member 1 of cluster 5741, not of member")
			}
		}
		after, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, file, after)
	}
}

// A member that has lost its log has forgotten its votes: it founds the cluster again only where somebody says so.
func TestLogThatIsLost(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	_, err := openLog(dir, member1, false)
	require.ErrorIs(t, err, errNoLog)
	require.NoDirExists(t, dir)
	log, err := openLog(dir, member1, true)
	require.NoError(t, err)
	require.NoError(t, log.file.Close())
	_, err = openLog(dir, member1, true)
	require.ErrorIs(t, err, errLogExists)
	require.NoError(t, os.Remove(filepath.Join(dir, "raft.log")))
	_, err = openLog(dir, member1, false)
	require.ErrorIs(t, err, errNoLog)
}

// A first start that is killed before it has saved anything goes on at the next one: the owner is in the log by then, and the
// members are not.
func TestFoundingIsCutOff(t *testing.T) {
	dir := t.TempDir()
	for _, found := range []bool{true, false, false} {
		log, err := openLog(dir, member1, found)
		require.NoError(t, err)
		m, err := startMember([]uint64{1, 2, 3}, log, quiet())
		require.NoError(t, err)
		rd := <-m.Ready()
		require.Len(t, rd.Entries, 3, "one for each member")
		m.Stop() // before it saves
		require.NoError(t, log.file.Close())
	}
}
