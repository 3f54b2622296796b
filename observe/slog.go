package observe

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
)

// Log returns an Observer that logs events to l: peers that become active (info)
// or inactive (warn), snapshots (info, or warn if they failed), drops and slow
// Process (warn), failed probes (debug). Drops, slow Process and failed probes
// are logged once a minute for each peer and lane, with their number since the
// last line.
//
// The Logger of a Transport logs the same and more about peers and snapshots: with
// [Zap], that goes to log/slog as well, and Log is not needed.
func Log(l *slog.Logger) *rafthttp.Observer {
	row := rows{last: map[rowKey]*rowState{}}
	return &rafthttp.Observer{
		PeerState: func(id types.ID, active bool, cause error) {
			if active {
				l.Info("peer became active", "peer", id.String())
				return
			}
			l.Warn("peer became inactive", "peer", id.String(), "error", cause)
		},
		Dropped: func(id types.ID, lane string, n int, cause error) {
			reason := string(rafthttp.DropReasonOf(cause))
			if all := row.add(rowKey{id, lane, reason}, n); all > 0 {
				l.Warn("dropped messages", "peer", id.String(), "lane", lane, "messages", all, "reason", reason, "error", cause)
			}
		},
		SlowProcess: func(id types.ID, lane string, kind raftpb.MessageType, took time.Duration) {
			if all := row.add(rowKey{id, lane, "slow"}, 1); all > 0 {
				l.Warn("Process was slow", "peer", id.String(), "lane", lane, "times", all, "type", kind.String(), "took", took)
			}
		},
		Probed: func(id types.ID, _, _ time.Duration, err error) {
			if err == nil || !l.Enabled(context.Background(), slog.LevelDebug) {
				return
			}
			if all := row.add(rowKey{id, "", "probe"}, 1); all > 0 {
				l.Debug("failed to probe a peer", "peer", id.String(), "times", all, "error", err)
			}
		},
		SnapshotSent:     logSnapshot(l, "sent a database snapshot", "failed to send a database snapshot"),
		SnapshotReceived: logSnapshot(l, "received a database snapshot", "failed to receive a database snapshot"),

		GroupSnapshotEnded: func(st rafthttp.SnapshotStatus) { logGroupSnapshot(l.With("group", st.Group), st) },
	}
}

func logGroupSnapshot(l *slog.Logger, st rafthttp.SnapshotStatus) {
	log := logSnapshot(l, "sent a database snapshot", "failed to send a database snapshot")
	if st.Incoming {
		log = logSnapshot(l, "received a database snapshot", "failed to receive a database snapshot")
	}
	var err error
	if st.Error != "" {
		err = errors.New(st.Error)
	}
	log(st.Peer, st.Index, st.Bytes, st.Ended.Sub(st.Started), err)
}

func logSnapshot(l *slog.Logger, done, failed string) func(types.ID, uint64, int64, time.Duration, error) {
	return func(id types.ID, index uint64, bytes int64, took time.Duration, err error) {
		args := []any{"peer", id.String(), "index", index, "bytes", bytes, "took", took}
		if err != nil {
			l.Warn(failed, append(args, "error", err)...)
			return
		}
		l.Info(done, args...)
	}
}

const (
	rowQuiet = time.Minute
	maxRows  = 1024 // limit, as peers change
)

// rowKey identifies events logged once a minute.
type rowKey struct {
	id         types.ID
	lane, what string
}

type rowState struct {
	at   time.Time // of the last line
	more int       // since then
}

// rows count repeated events. They are safe for concurrent use.
type rows struct {
	mu   sync.Mutex
	last map[rowKey]*rowState
}

// add counts n, and returns the number to log now, or 0.
func (r *rows) add(k rowKey, n int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.last[k]
	if s == nil {
		if len(r.last) >= maxRows {
			clear(r.last)
		}
		s = &rowState{}
		r.last[k] = s
	}
	s.more += n
	now := time.Now()
	if now.Sub(s.at) < rowQuiet {
		return 0
	}
	all := s.more
	s.at, s.more = now, 0
	return all
}
