package server

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/api"
	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/storage"
)

// fill checks the configuration and replaces zeros by defaults. Its errors name
// the flags of the command line.
func (c *Config) fill() error {
	if c.ID == raft.None || raft.IsLocalMsgTarget(c.ID) {
		return fmt.Errorf("--id: %d is not an id: want 1 or more", c.ID)
	}
	if c.DataDir == "" {
		return fmt.Errorf("--data-dir: missing")
	}
	if err := checkPeerURL(c.PeerURL); err != nil {
		return fmt.Errorf("--peer-url: %w", err)
	}
	if err := checkClientURL(c.ClientURL); err != nil {
		return fmt.Errorf("--client-url: %w", err)
	}
	for from, to := range c.Routes {
		if err := errors.Join(checkPeerURL(from), checkPeerURL(to)); err != nil {
			return fmt.Errorf("--peer-route: %w", err)
		}
	}
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	setDefault(&c.Tick, 100*time.Millisecond)
	setDefault(&c.CompactEntries, 20_000)
	setDefault(&c.CompactBytes, 32<<20)
	setDefault(&c.KeepEntries, 2_000)
	setDefault(&c.KeepBytes, 16<<20)
	return nil
}

// checkFirstStart checks what matters only to a member that is started for the
// first time.
func (c *Config) checkFirstStart() error {
	switch {
	case c.Join != "" && len(c.Bootstrap) > 0:
		return fmt.Errorf("--join and --cluster: a member either joins a cluster or is one of those that found it")
	case c.Join != "":
		if err := checkClientURL(c.Join); err != nil {
			return fmt.Errorf("--join: %w", err)
		}
		return nil
	case len(c.Bootstrap) == 0:
		return fmt.Errorf("--data-dir: empty: a new member needs --cluster, to found a cluster, or --join, to join one")
	}
	var ms storage.Membership
	for _, id := range slices.Sorted(maps.Keys(c.Bootstrap)) {
		if id == raft.None || raft.IsLocalMsgTarget(id) {
			return fmt.Errorf("--cluster: %d is not an id: raft keeps it for itself", id)
		}
		m := storage.Member{ID: id, PeerURL: c.Bootstrap[id]}
		if err := admit(ms, m); err != nil { // as those that join later
			return fmt.Errorf("--cluster: member %d: %w", id, err)
		}
		ms = ms.With(m)
	}
	if own, ok := c.Bootstrap[c.ID]; !ok || own != c.PeerURL {
		return fmt.Errorf("--cluster: does not list this member as %d=%s (--id, --peer-url)", c.ID, c.PeerURL)
	}
	return nil
}

func setDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

func checkPeerURL(s string) error {
	if _, err := types.NewURLs([]string{s}); err != nil {
		return fmt.Errorf("%q is not a URL like https://host:port: %w", s, err)
	}
	return nil
}

func checkClientURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" || u.Port() == "" {
		return fmt.Errorf("%q is not a URL like http://host:port", s)
	}
	return nil
}

// memberError says that what a client sent about a member cannot be.
func memberError(format string, args ...any) error { return api.ErrBadRequest.Detail(format, args...) }
