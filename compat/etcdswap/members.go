package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// join adds a fourth member as a learner, which must catch up by a snapshot, and makes it a voter.
func (c *etcdCluster) join(ctx context.Context, k kind) error {
	// In a mixed cluster the second member has another transport than the one that joins, and sends it the snapshot.
	err := eventually(ctx, "the second leads", func(ctx context.Context) error { return c.moveLeader(ctx, c.servers[1]) })
	if err != nil {
		return err
	}
	s, err := newServer(c.programs, k, "m4", c.dir, c.tls)
	if err != nil {
		return err
	}
	var id uint64
	err = eventually(ctx, "add the learner", func(ctx context.Context) error {
		added, err := c.client.MemberAddAsLearner(ctx, []string{s.peerURL})
		if err == nil {
			id = added.Member.ID
		} else if errors.Is(err, rpctypes.ErrPeerURLExist) { // an earlier try was carried out, and its answer lost
			id, err = c.memberAt(ctx, s.peerURL)
		}
		return err
	})
	if err != nil {
		return err
	}
	c.servers = append(c.servers, s)
	if err := s.configure("existing", c.servers); err != nil {
		return err
	}
	if err := s.start(); err != nil {
		return err
	}
	err = eventually(ctx, "promote the learner", func(ctx context.Context) error { // refused until it has caught up
		_, err := c.client.MemberPromote(ctx, id)
		return unless(err, rpctypes.ErrMemberNotLearner)
	})
	if err != nil {
		return err
	}
	if err := c.awaitService(ctx, s); err != nil {
		return err
	}
	if got, err := s.logged("received and saved database snapshot"); err != nil || !got {
		return errors.Join(errors.New("the fourth member has not logged that it received a snapshot"), err)
	}
	if err := c.connect(ctx); err != nil {
		return err
	}
	if err := eventually(ctx, "the fourth leads", func(ctx context.Context) error { return c.moveLeader(ctx, s) }); err != nil {
		return err
	}
	return c.put(ctx, 200)
}

func (c *etcdCluster) memberAt(ctx context.Context, peerURL string) (uint64, error) {
	list, err := c.client.MemberList(ctx)
	if err != nil {
		return 0, err
	}
	for _, m := range list.Members {
		if slices.Contains(m.PeerURLs, peerURL) {
			return m.ID, nil
		}
	}
	return 0, errors.New("no member has the peer URL " + peerURL)
}

// unless returns err, but nil for what says that an earlier try was carried out.
func unless(err, done error) error {
	if errors.Is(err, done) {
		return nil
	}
	return err
}

// removeFirst removes the first member, which has to stop by itself.
func (c *etcdCluster) removeFirst(ctx context.Context) error {
	first := c.servers[0]
	status, err := c.client.Status(ctx, first.clientURL)
	if err != nil {
		return err
	}
	err = eventually(ctx, "remove the member", func(ctx context.Context) error {
		_, err := c.client.MemberRemove(ctx, status.Header.MemberId)
		return unless(err, rpctypes.ErrMemberNotFound)
	})
	if err != nil {
		return err
	}
	if err := first.awaitExit(ctx); err != nil {
		return err
	}
	c.servers = c.servers[1:]
	if err := c.connect(ctx); err != nil {
		return err
	}
	return c.put(ctx, 200)
}

// compare requires of all members the same hash of all keys, and every key that was acknowledged.
func (c *etcdCluster) compare(ctx context.Context) error {
	last, err := c.client.Get(ctx, "key ", clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		return err
	}
	if last.Count != c.keys.Load() {
		return fmt.Errorf("%d keys were acknowledged, %d are there", c.keys.Load(), last.Count)
	}
	var hash uint32
	for i, s := range c.servers {
		var got *clientv3.HashKVResponse
		err := eventually(ctx, "hash of "+s.name, func(ctx context.Context) (err error) {
			got, err = c.client.HashKV(ctx, s.clientURL, last.Header.Revision)
			return err
		})
		if err != nil {
			return err
		}
		if i > 0 && got.Hash != hash {
			return fmt.Errorf("%s differs from %s", s.name, c.servers[0].name)
		}
		hash = got.Hash
	}
	fmt.Printf("  %d keys, hash %08x on %d members\n", last.Count, hash, len(c.servers))
	return nil
}

// lastWords returns what the servers have written to their standard error, and the ends of their logs.
func (c *etcdCluster) lastWords() string {
	var b strings.Builder
	for _, s := range c.servers {
		for _, file := range []string{s.dir + "/stderr", s.logFile()} {
			text, _ := os.ReadFile(file)
			lines := strings.Split(strings.TrimSpace(string(text)), "\n")
			for _, line := range lines[max(0, len(lines)-8):] {
				fmt.Fprintf(&b, "%s (%s): %s\n", s.name, s.kind, line)
			}
		}
	}
	return b.String()
}

func (c *etcdCluster) close() {
	if c.client != nil {
		c.client.Close()
	}
	for _, s := range c.servers {
		s.kill()
	}
}
