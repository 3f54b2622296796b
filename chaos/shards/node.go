//go:build unix

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
)

const (
	groups    = 50
	copies    = 3 // replicas of a group at the beginning
	tick      = 100 * time.Millisecond
	clusterID = 0x5ad5
)

// A replica has an id that says where it lives, and is used once.
func replicaID(node, n uint64) uint64  { return node<<32 | n }
func nodeOf(replica uint64) (n uint64) { return replica >> 32 }

// node has replicas of some groups, and one Transport for all of them.
type node struct {
	cfg       config
	transport *rafthttp.Transport
	failed    chan error // gets why the node cannot go on

	mu       sync.Mutex
	stopping bool
	replicas map[uint64]*replica // by group

	over   chan struct{}
	joined sync.WaitGroup
}

// startNode starts the replicas that the node had before, or those of a new cluster.
func startNode(cfg config) (*node, error) {
	n := &node{cfg: cfg, failed: make(chan error, 1), replicas: map[uint64]*replica{}, over: make(chan struct{})}
	n.transport = &rafthttp.Transport{
		ID: types.ID(cfg.id), ClusterID: clusterID, Raft: rafthttp.NoRaft{}, Logger: cfg.log.Named("transport"),
		TLSInfo: cfg.tls, TLSRecheck: cfg.tlsRecheck,
	}
	if err := n.found(); err != nil {
		return nil, fmt.Errorf("found: %w", err)
	}
	if err := n.transport.Start(); err != nil {
		return nil, err
	}
	disks, err := filepath.Glob(filepath.Join(cfg.dir, "group-*", "replica-*", logName))
	if err != nil {
		return nil, err
	}
	for _, path := range disks {
		if err := n.open(filepath.Dir(path)); err != nil {
			n.stop()
			return nil, fmt.Errorf("%s: %w", filepath.Dir(path), err)
		}
	}
	n.joined.Go(n.tick)
	return n, nil
}

func (n *node) folder(group, replica uint64) string {
	return filepath.Join(n.cfg.dir, fmt.Sprintf("group-%d", group), fmt.Sprintf("replica-%d", replica))
}

// found makes the disks of the first replicas, at the first start.
func (n *node) found() error {
	mark := filepath.Join(n.cfg.dir, "founded")
	if _, err := os.Stat(mark); err == nil {
		return nil
	}
	for g := range uint64(groups) {
		var voters []uint64
		for i := range uint64(copies) {
			voters = append(voters, replicaID((g+i)%uint64(len(n.cfg.peers))+1, 1))
		}
		at := slices.IndexFunc(voters, func(id uint64) bool { return nodeOf(id) == n.cfg.id })
		if at < 0 {
			continue
		}
		d, err := openDisk(n.folder(g+1, voters[at]))
		if err != nil {
			return err
		}
		one := new(uint64(1))
		s := &raftpb.Snapshot{
			Data:     encodeState(state{Index: 1, Data: map[string]string{}}),
			Metadata: &raftpb.SnapshotMetadata{Index: one, Term: one, ConfState: &raftpb.ConfState{Voters: voters}},
		}
		last, err := d.LastIndex()
		if err == nil && last == 0 { // else it was made before a crash
			err = errors.Join(d.ApplySnapshot(s), d.rewrite())
		}
		if err = errors.Join(err, d.close()); err != nil {
			return err
		}
	}
	f, err := os.Create(mark)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close(), syncDir(n.cfg.dir))
}

// open starts the replica in a folder, unless it was removed.
func (n *node) open(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, endedName)); err == nil {
		return nil
	}
	var group, id uint64
	if _, err := fmt.Sscanf(filepath.Base(filepath.Dir(dir)), "group-%d", &group); err != nil {
		return err
	}
	if _, err := fmt.Sscanf(filepath.Base(dir), "replica-%d", &id); err != nil {
		return err
	}
	return n.join(group, id)
}

var errHasReplica = errors.New("the node has a replica of the group")

// join starts a replica, which is a new one if there is nothing of it on disk.
func (n *node) join(group, id uint64) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stopping {
		return errEnded
	}
	if n.replicas[group] != nil {
		return errHasReplica
	}
	if _, err := os.Stat(filepath.Join(n.folder(group, id), endedName)); err == nil {
		return fmt.Errorf("replica %d was removed", id)
	}
	d, err := openDisk(n.folder(group, id))
	if err != nil {
		return err
	}
	r, err := startReplica(n, group, id, d)
	if err != nil {
		return errors.Join(err, d.close())
	}
	n.replicas[group] = r
	n.joined.Go(r.await)
	return nil
}

// part ends a replica that was removed from its group.
func (n *node) part(r *replica, why error) {
	n.mu.Lock()
	ours := n.replicas[r.group] == r
	n.mu.Unlock()
	if !ours {
		return
	}
	r.stop()
	if err := r.disk.end(); err != nil {
		n.fail(err)
		return
	}
	n.cfg.log.Sugar().Infof("replica %d of group %d has ended: %v", r.id, r.group, why)
	n.mu.Lock()
	delete(n.replicas, r.group)
	n.mu.Unlock()
}

func (n *node) replica(group uint64) *replica {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.replicas[group]
}

func (n *node) all() []*replica {
	n.mu.Lock()
	defer n.mu.Unlock()
	var all []*replica
	for g := range uint64(groups) {
		if r := n.replicas[g+1]; r != nil {
			all = append(all, r)
		}
	}
	return all
}

// tick is the clock of all groups.
func (n *node) tick() {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			for _, r := range n.all() {
				r.tick()
			}
		case <-n.over:
			return
		}
	}
}

// fail ends the node.
func (n *node) fail(err error) {
	select {
	case n.failed <- err:
	default:
	}
}

func (n *node) stop() {
	n.mu.Lock()
	n.stopping = true
	n.mu.Unlock()
	close(n.over)
	n.transport.Stop()
	for _, r := range n.all() {
		r.stop()
	}
	n.joined.Wait()
}

// urlOf returns where a node is reached.
func (n *node) urlOf(id uint64) string {
	u := n.cfg.peers[id]
	if to := n.cfg.routes[u]; to != "" {
		return to
	}
	return u
}

// groupOf returns the group of a key.
func groupOf(key string) uint64 {
	h := uint64(14695981039346656037)
	for _, c := range []byte(key) {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return h%groups + 1
}

func parseID(s string) uint64 {
	id, _ := strconv.ParseUint(s, 10, 64)
	return id
}
