package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp/compat/member"
	"github.com/seed-4d73690b/rafthttp/compat/v36/drive"
)

// etcdCluster is a running cluster of real servers and a client of all of them.
type etcdCluster struct {
	programs programs
	dir      string
	tls      *drive.TLS
	servers  []*server
	client   *clientv3.Client
	keys     atomic.Int64 // acknowledged
	fast     bool         // servers keep etcd's defaults for snapshots, and are measured
}

// live takes one cluster through its life, in a new folder within work.
func live(ctx context.Context, work string, p programs, mix [4]kind, tls bool, puts int) (err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp(work, "cluster-")
	if err != nil {
		return err
	}
	c := &etcdCluster{programs: p, dir: dir}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w\n%s", err, c.lastWords())
		}
		c.close()
	}()
	if tls {
		if c.tls, err = member.NewCertificate(dir); err != nil {
			return err
		}
	}
	steps := []struct {
		what string
		do   func() error
	}{
		{"start three members", func() error { return c.bootstrap(ctx, mix[:3]) }},
		{fmt.Sprintf("put %d keys", puts), func() error { return c.put(ctx, puts) }},
		{"let each member lead", func() error { return c.leadInTurn(ctx) }},
		{"kill and restart each member", func() error { return c.killInTurn(ctx) }},
		{"add a fourth member by snapshot", func() error { return c.join(ctx, mix[3]) }},
		{"remove the first member", func() error { return c.removeFirst(ctx) }},
		{"compare the members", func() error { return c.compare(ctx) }},
	}
	for _, step := range steps {
		start := time.Now()
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
		fmt.Printf("  %-34s %8s\n", step.what, since(start))
	}
	return nil
}

func (c *etcdCluster) bootstrap(ctx context.Context, kinds []kind) error {
	for i, k := range kinds {
		s, err := newServer(c.programs, k, fmt.Sprintf("m%d", i+1), c.dir, c.tls)
		if err != nil {
			return err
		}
		s.fast = c.fast
		c.servers = append(c.servers, s)
	}
	for _, s := range c.servers {
		if err := s.configure("new", c.servers); err != nil {
			return err
		}
		if err := s.start(); err != nil {
			return err
		}
	}
	return c.connect(ctx)
}

// connect makes a new client of all servers that live, and waits until each of them serves.
func (c *etcdCluster) connect(ctx context.Context) error {
	if c.client != nil {
		c.client.Close()
	}
	var urls []string
	for _, s := range c.servers {
		urls = append(urls, s.clientURL)
	}
	var err error
	if c.client, err = newClient(urls...); err != nil {
		return err
	}
	for _, s := range c.servers {
		if err := c.awaitService(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// awaitService waits until the server answers a linearizable read by itself.
func (c *etcdCluster) awaitService(ctx context.Context, s *server) error {
	one, err := newClient(s.clientURL)
	if err != nil {
		return err
	}
	defer one.Close()
	return eventually(ctx, s.name+" serves", func(ctx context.Context) error {
		_, err := one.Get(ctx, "is anybody there")
		return err
	})
}

func newClient(urls ...string) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{Endpoints: urls, DialTimeout: 5 * time.Second, Logger: zap.NewNop()})
}

// eventually tries again until do holds, for a minute.
func eventually(ctx context.Context, what string, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		try, stop := context.WithTimeout(ctx, 2*time.Second)
		err := do(try)
		stop()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// put puts n new keys, by several clients at once through all members. A put that fails is tried again: the key is the same.
func (c *etcdCluster) put(ctx context.Context, n int) error {
	var next atomic.Int64
	var workers sync.WaitGroup
	var failure atomic.Pointer[error]
	first := c.keys.Load()
	for range 32 {
		workers.Go(func() {
			for i := next.Add(1); i <= int64(n) && failure.Load() == nil; i = next.Add(1) {
				key := fmt.Sprintf("key %06d", first+i)
				err := eventually(ctx, "put "+key, func(ctx context.Context) error {
					_, err := c.client.Put(ctx, key, "value of "+key)
					return err
				})
				if err != nil {
					failure.Store(&err)
					return
				}
				c.keys.Add(1)
			}
		})
	}
	workers.Wait()
	if err := failure.Load(); err != nil {
		return *err
	}
	return nil
}

// leadInTurn makes each member the leader once, and puts keys while it is.
func (c *etcdCluster) leadInTurn(ctx context.Context) error {
	for _, s := range c.servers {
		err := eventually(ctx, s.name+" leads", func(ctx context.Context) error { return c.moveLeader(ctx, s) })
		if err != nil {
			return err
		}
		if err := c.put(ctx, 200); err != nil {
			return err
		}
	}
	return nil
}

func (c *etcdCluster) moveLeader(ctx context.Context, to *server) error {
	wanted, err := c.client.Status(ctx, to.clientURL)
	if err != nil {
		return err
	}
	id := wanted.Header.MemberId
	if wanted.Leader == id {
		return nil
	}
	for _, s := range c.servers {
		status, err := c.client.Status(ctx, s.clientURL)
		if err != nil || status.Header.MemberId != wanted.Leader {
			continue
		}
		leader, err := newClient(s.clientURL) // only the leader takes the order
		if err != nil {
			return err
		}
		defer leader.Close()
		_, err = leader.MoveLeader(ctx, id)
		return err
	}
	return errors.New("there is no leader")
}

// killInTurn kills each member once, goes on without it, and starts it again.
func (c *etcdCluster) killInTurn(ctx context.Context) error {
	for _, s := range c.servers {
		s.kill()
		if err := c.put(ctx, 200); err != nil {
			return fmt.Errorf("without %s: %w", s.name, err)
		}
		if err := s.start(); err != nil {
			return err
		}
		if err := c.awaitService(ctx, s); err != nil {
			return err
		}
	}
	return nil
}
