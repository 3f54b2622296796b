package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"

	"go.etcd.io/etcd/raft/v3/raftpb"
)

// state is what the log makes.
type state struct {
	Metadata []byte // of the snapshot that this is the state of: index, term, members
	Members  map[uint64]string
	Lines    [][]byte // not strings, in which JSON replaces what is not UTF-8
}

// store keeps the state of each snapshot in a file of its own. A snapshot that
// goes from member to member has only the URL of that file.
type store struct {
	dir    string
	client *http.Client
}

func (s *store) path(index uint64) string {
	return filepath.Join(s.dir, fmt.Sprintf("%016x.state", index))
}

// save writes a state so that it survives a crash.
func (s *store) save(index uint64, st *state) (err error) {
	data, err := json.Marshal(st)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(s.dir, "tmp-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), s.path(index))
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncDir(s.dir)
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// removeBefore removes the states of snapshots before index: members may be
// fetching that one.
func (s *store) removeBefore(index uint64) error {
	files, err := filepath.Glob(filepath.Join(s.dir, "*.state"))
	for _, f := range files {
		if f < s.path(index) {
			err = errors.Join(err, os.Remove(f))
		}
	}
	return err
}

// load reads the state of a snapshot.
func (s *store) load(index uint64) (*state, error) {
	data, err := os.ReadFile(s.path(index))
	if err != nil {
		return nil, err
	}
	return decode(data, index)
}

// decode makes sure that data is the state of the snapshot of that index.
func decode(data []byte, index uint64) (*state, error) {
	st := &state{}
	if err := json.Unmarshal(data, st); err != nil {
		return nil, err
	}
	var meta raftpb.SnapshotMetadata
	if err := meta.Unmarshal(st.Metadata); err != nil {
		return nil, err
	}
	if meta.Index != index {
		return nil, fmt.Errorf("the state of snapshot %d, not of %d", meta.Index, index)
	}
	return st, nil
}

// fetch gets the state of a snapshot from the member that its data names.
func (s *store) fetch(ctx context.Context, snapshot raftpb.Snapshot) error {
	index := snapshot.Metadata.Index
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, string(snapshot.Data), nil)
	if err != nil {
		return err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", snapshot.Data, resp.Status)
	}
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	st, err := decode(data, index)
	if err != nil {
		return err
	}
	return s.save(index, st)
}
