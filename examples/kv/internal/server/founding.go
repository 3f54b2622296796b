package server

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"time"

	"go.etcd.io/raft/v3"
	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/storage"
)

// A founder whose folder is empty may have lost it. It must not found the cluster
// a second time, under an id that has voted and acknowledged entries. The others
// know: each member publishes its client URL, and the membership has it from then
// on. So a founder asks all the others, and founds when each of them has answered
// that it does not know this member from an earlier life.
//
// They agree on a number then, too, which makes the id of the cluster: the first of
// them draws it, and tells it when it is durable, and the others wait for that. So a
// cluster that is founded again at the same addresses has another id, and members
// of the old one that come back are refused.

const (
	membershipPath = "/membership" // below the peer URL

	askTimeout    = 2 * time.Second
	askRetry      = 100 * time.Millisecond
	askLogEvery   = 10 * time.Second
	maxMembership = 1 << 20 // bytes
)

// founderAnswer is what a founder tells another one.
type founderAnswer struct {
	storage.Membership
	Founding uint64 `json:"founding,omitempty"` // the number that was drawn; 0: it has none yet
}

// serveMembership tells other founders who the members are, as far as this one has
// applied the log, and the number of the founding.
func (s *Server) serveMembership(w http.ResponseWriter, _ *http.Request) {
	identity, _, err := s.storage.Log.Identity()
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(founderAnswer{s.storage.Data.Membership(), identity.Founding})
}

var errNotDrawn = errors.New("it has yet to draw the number of the founding")

// askFounders returns the number of the founding when all other founders have said
// that this member has not run before. It waits for those that do not answer.
func (s *Server) askFounders(ctx context.Context) (founding uint64, err error) {
	round, err := rafthttp.NewRoundTripper(s.cfg.PeerTLS, askTimeout)
	if err != nil {
		return 0, err
	}
	c := &http.Client{Transport: round, Timeout: askTimeout}
	defer c.CloseIdleConnections()
	first := slices.Min(slices.Collect(maps.Keys(s.cfg.Bootstrap)))
	silent := maps.Clone(s.cfg.Bootstrap)
	delete(silent, s.cfg.ID)
	var logged time.Time
	for {
		var noAnswer error
		for id, peerURL := range silent {
			answer, err := s.askMembership(ctx, c, peerURL)
			if err != nil {
				noAnswer = err
				continue
			}
			if err := s.checkUnknown(id, answer.Membership); err != nil {
				return 0, err
			}
			if id == first && answer.Founding == 0 {
				noAnswer = errNotDrawn
				continue
			}
			founding = cmp.Or(founding, answer.Founding)
			delete(silent, id)
		}
		if len(silent) == 0 {
			return cmp.Or(founding, randomUint64()), nil
		}
		waitsFor := slices.Sorted(maps.Keys(silent))
		if time.Since(logged) >= askLogEvery {
			s.log.Info("waiting for the other founders", zap.Uint64s("members", waitsFor), zap.NamedError("last", noAnswer))
			logged = time.Now()
		}
		select {
		case <-time.After(askRetry):
		case <-ctx.Done():
			return 0, fmt.Errorf("--cluster: no answer from the members %d: %w", waitsFor, noAnswer)
		case <-s.life.Done():
			return 0, context.Cause(s.life)
		}
	}
}

// checkUnknown says what is wrong when a founder knows this member from an earlier
// life.
func (s *Server) checkUnknown(founder uint64, ms storage.Membership) error {
	switch {
	case ms.Removed[s.cfg.ID]:
		return ErrRemoved
	case ms.Members[s.cfg.ID].ClientURL != "":
		return fmt.Errorf("--data-dir: %s is empty, but member %d knows member %d from an earlier life: "+
			"its data was lost, or is elsewhere; without it, remove the member, and have it join under a new id (--id, --join)",
			s.cfg.DataDir, founder, s.cfg.ID)
	}
	return nil
}

// askMembership asks one of them.
func (s *Server) askMembership(ctx context.Context, c *http.Client, peerURL string) (answer founderAnswer, err error) {
	if to := s.cfg.Routes[peerURL]; to != "" {
		peerURL = to
	}
	u, err := url.Parse(peerURL)
	if err != nil {
		return answer, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.JoinPath(membershipPath).String(), nil)
	if err != nil {
		return answer, err
	}
	resp, err := c.Do(req)
	if err != nil {
		return answer, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return answer, fmt.Errorf("%s answered %s", req.URL, resp.Status)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxMembership)).Decode(&answer); err != nil {
		return answer, fmt.Errorf("answer of %s: %w", req.URL, err)
	}
	return answer, nil
}

// foundingPeers are the members a cluster starts with, as raft wants them. They
// become the first entries of the log, which must be the same everywhere.
func foundingPeers(bootstrap map[uint64]string) ([]raft.Peer, error) {
	var peers []raft.Peer
	for _, id := range slices.Sorted(maps.Keys(bootstrap)) {
		about, err := json.Marshal(changeContext{Member: storage.Member{ID: id, PeerURL: bootstrap[id]}})
		if err != nil {
			return nil, err
		}
		peers = append(peers, raft.Peer{ID: id, Context: about})
	}
	return peers, nil
}

// foundingID is the id of the cluster that these members found. It keeps
// members of different clusters from talking to each other by mistake: of another
// founding, and of another list of founders, whose logs begin otherwise.
func foundingID(bootstrap map[uint64]string, founding uint64) uint64 {
	h := sha256.New()
	fmt.Fprintf(h, "%d\n", founding)
	for _, id := range slices.Sorted(maps.Keys(bootstrap)) {
		fmt.Fprintf(h, "%d=%s\n", id, bootstrap[id])
	}
	return binary.BigEndian.Uint64(h.Sum(nil))
}
