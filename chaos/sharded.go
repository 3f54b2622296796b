//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/seed-4d73690b/rafthttp"
)

// This file is for a cluster of shards, whose members are nodes with replicas of many raft groups.

const (
	groups     = 50
	copies     = 3                // replicas of a group
	askTime    = 5 * time.Second  // for a node to say what it has, of 50 groups
	changeTime = 10 * time.Second // for the moves of one fault
	untoldTime = 20 * time.Second // until replicas that were removed must have ended, unless nobody is left to tell them
)

// replica is what a node says of one of its replicas.
type replica struct {
	Group, Replica, Leader, Term, Applied uint64
	Hash                                  string
	Voters, Removed                       []uint64
}

func (r *replica) isVoter() bool { return slices.Contains(r.Voters, r.Replica) }

// nodeOf returns where a replica lives, of which its id speaks.
func nodeOf(replica uint64) uint64 { return replica >> 32 }

// shardsNode is what a node says of itself.
type shardsNode struct {
	ID        uint64
	Replicas  []replica
	Transport rafthttp.Status
}

// clientFlags tells nodes where the others answer clients.
func (c *cluster) clientFlags() []string {
	list := ""
	for _, m := range c.members {
		list += fmt.Sprintf(",%d=%s", m.id, m.client)
	}
	return []string{"-clients", list[1:]}
}

// placed returns the replicas of all groups, as all nodes say; err says which does not answer.
func (c *cluster) placed(ctx context.Context) (nodes []shardsNode, byGroup [groups + 1][]replica, err error) {
	for _, m := range c.members {
		var n shardsNode
		if err := c.client.askWithin(ctx, askTime, m.client+"/groups", &n); err != nil {
			return nil, byGroup, fmt.Errorf("member %s: %w", m.name(), err)
		}
		nodes = append(nodes, n)
		for _, r := range n.Replicas {
			byGroup[r.Group] = append(byGroup[r.Group], r)
		}
	}
	return nodes, byGroup, nil
}

// unsettledGroups says what is wrong with a cluster of shards, if something is.
func (c *cluster) unsettledGroups(ctx context.Context) error {
	nodes, byGroup, err := c.placed(ctx)
	if err != nil {
		return err
	}
	for _, n := range nodes {
		if n.Transport.Groups == nil {
			return fmt.Errorf("node %d has no groups", n.ID)
		}
		if err := linked(n.Transport.Groups.Nodes, len(nodes)-1); err != nil {
			return fmt.Errorf("node %d: %w", n.ID, err)
		}
	}
	for g := uint64(1); g <= groups; g++ {
		if err := c.unsettledGroup(ctx, g, byGroup[g]); err != nil {
			return err
		}
	}
	return nil
}

// unsettledGroup says what is wrong with a group. Replicas that were never added may be there, and wait.
func (c *cluster) unsettledGroup(ctx context.Context, group uint64, all []replica) error {
	i := slices.IndexFunc(all, func(r replica) bool { return r.Leader == r.Replica && r.isVoter() })
	if i < 0 {
		return fmt.Errorf("group %d has no leader", group)
	}
	leader, voters := all[i], 0
	for _, r := range all {
		switch {
		case slices.Contains(leader.Removed, r.Replica):
			c.end(ctx, r)
			return fmt.Errorf("group %d: replica %d was removed, and is there", group, r.Replica)
		case !slices.Contains(leader.Voters, r.Replica):
			continue
		case r.Applied != leader.Applied:
			return fmt.Errorf("group %d: replica %d has applied %d, the leader %d", group, r.Replica, r.Applied, leader.Applied)
		case r.Hash != leader.Hash:
			c.violated(fmt.Errorf("%w: group %d, index %d, replicas %d and %d", errDiffer, group, r.Applied, leader.Replica, r.Replica))
			return c.err()
		case r.Leader != leader.Leader:
			return fmt.Errorf("group %d: the leader of replica %d is %d, not %d", group, r.Replica, r.Leader, leader.Leader)
		}
		voters++
	}
	if voters != len(leader.Voters) {
		return fmt.Errorf("group %d: %d of %d replicas are there", group, voters, len(leader.Voters))
	}
	return nil
}

// end ends a replica that was removed, as a controller does, if it has had the time to hear of it: all that it knows may
// be gone.
func (c *cluster) end(ctx context.Context, r replica) {
	c.mu.Lock()
	since, ok := c.untold[r.Replica]
	if !ok {
		c.untold[r.Replica] = time.Now()
	}
	c.mu.Unlock()
	if ok && time.Since(since) > untoldTime {
		err := c.administer(ctx, nodeOf(r.Replica), "end", r.Group, r.Replica)
		c.note("replica %d of group %d was not told that it was removed: %v", r.Replica, r.Group, err)
	}
}

// administer has a node change something of a group.
func (c *cluster) administer(ctx context.Context, node uint64, what string, group, replica uint64) error {
	m := c.members[node-1]
	a, err := c.client.do(ctx, http.MethodPost, fmt.Sprintf("%s/groups/%d/%s?replica=%d", m.client, group, what, replica), "")
	if err == nil {
		err = a.err()
	}
	return err
}

// mostMoves is how many replicas move in one fault, at most.
const mostMoves = 8

// moveReplicas moves replicas of random groups to other nodes, in the background.
func moveReplicas(n *nemesis) (string, func(), bool) {
	if !n.changing.TryLock() {
		return "", nil, false
	}
	type move struct{ group, which, to uint64 }
	var moves []move
	for range n.some(mostMoves) + 2 {
		moves = append(moves, move{uint64(n.rand.IntN(groups) + 1), n.rand.Uint64(), uint64(n.rand.IntN(size) + 1)})
	}
	n.background.Go(func() {
		defer n.changing.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), changeTime)
		defer cancel()
		for _, m := range moves {
			err := n.c.move(ctx, m.group, m.which, m.to)
			n.c.note("move of group %d to node %d: %v", m.group, m.to, errOr(err, "done"))
			if err == nil {
				n.c.moved.Add(1)
			}
		}
	})
	return fmt.Sprintf("%d replicas", len(moves)), nil, true
}

// move adds a replica on a node, or one that an earlier move has left there, and removes another.
func (c *cluster) move(ctx context.Context, group, which, to uint64) error {
	var leader replica
	added := uint64(0)
	for _, m := range c.members { // those that answer
		var n shardsNode
		if c.client.ask(ctx, m.client+"/groups", &n) != nil {
			continue
		}
		for _, r := range n.Replicas {
			if r.Group == group && r.Leader == r.Replica && r.Term > leader.Term {
				leader = r
			}
			if r.Group == group && n.ID == to {
				added = r.Replica
			}
		}
	}
	switch {
	case leader.Replica == 0:
		return errors.New("no leader answers")
	case slices.Contains(leader.Voters, added):
		added = 0 // there is nothing to add
	case slices.ContainsFunc(leader.Voters, func(id uint64) bool { return nodeOf(id) == to }):
		return errors.New("the node is to have a replica already")
	case added == 0:
		added = to<<32 | (c.nextID() + 1)
		if err := c.administer(ctx, to, "join", group, added); err != nil {
			return fmt.Errorf("join: %w", err)
		}
	}
	if added != 0 {
		if err := c.administer(ctx, nodeOf(leader.Replica), "add", group, added); err != nil {
			return fmt.Errorf("add %d: %w", added, err)
		}
	}
	if added == 0 && len(leader.Voters) <= copies {
		return errors.New("there is nothing to move")
	}
	removed := leader.Voters[which%uint64(len(leader.Voters))]
	if err := c.administer(ctx, nodeOf(leader.Replica), "remove", group, removed); err != nil {
		return fmt.Errorf("remove %d: %w", removed, err)
	}
	return nil
}
