package snapshot

import (
	"context"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/seed-4d73690b/rafthttp/internal/protocol"
)

// networkWaits records whether a transfer waits for its sender: otherwise it
// writes, syncs, or processes. The time of a wait is limited; a longer one is
// not the network, also if the kernel reads and writes in one call.
type networkWaits struct {
	base  time.Time // does not change
	count atomic.Uint64
	until atomic.Int64 // latest end of the current wait, since base; 0: none
}

func (w *networkWaits) begin(limit time.Duration) {
	w.until.Store(int64(time.Since(w.base) + limit))
	w.count.Add(1)
}

func (w *networkWaits) end() { w.until.Store(0) }

// overdue reports whether there is no wait, or one over its limit.
func (w *networkWaits) overdue() bool { return int64(time.Since(w.base)) > w.until.Load() }

// maxReporting is how long a report to the sender may take.
const maxReporting = time.Second

// workReporter reports to the sender of a snapshot that the receiver is still working.
type workReporter struct {
	conn  net.Conn
	every time.Duration
	waits *networkWaits
	quit  chan struct{}
	done  chan struct{}
}

// reportWork starts to report to the other side of conn, until stop, or the end of ctx.
func reportWork(ctx context.Context, conn net.Conn, every time.Duration, waits *networkWaits) *workReporter {
	r := &workReporter{conn: conn, every: every, waits: waits, quit: make(chan struct{}), done: make(chan struct{})}
	go r.run(ctx) // joined by stop
	return r
}

// stop returns when nothing more is written. r may be nil.
func (r *workReporter) stop() {
	if r != nil {
		close(r.quit)
		<-r.done
	}
}

func (r *workReporter) run(ctx context.Context) {
	defer close(r.done)
	tick := time.NewTicker(r.every)
	defer tick.Stop()
	for last := r.waits.count.Load(); ; {
		select {
		case <-tick.C:
		case <-r.quit:
			return
		case <-ctx.Done():
			return
		}
		count := r.waits.count.Load()
		busy := count == last && r.waits.overdue()
		last = count
		if !busy {
			continue
		}
		if r.conn.SetWriteDeadline(time.Now().Add(maxReporting)) != nil {
			return
		}
		if _, err := io.WriteString(r.conn, protocol.WorkingAnswer); err != nil {
			return
		}
	}
}
