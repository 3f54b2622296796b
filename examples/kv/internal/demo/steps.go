package demo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/api"
)

const (
	smallValue = 100      // bytes
	largeValue = 64 << 10 // bytes

	calm     = time.Second      // of writing before the leader is killed, and after writes went on
	patience = 30 * time.Second // with anything that members do by themselves
)

func (d *demo) found(ctx context.Context, _ *bar) (string, error) {
	var list []string
	for _, n := range d.nodes.all[:founders] {
		list = append(list, fmt.Sprintf("%d=%s", n.id, n.peerURL))
	}
	for _, n := range d.nodes.all[:founders] {
		if err := d.nodes.start(n, "-cluster", strings.Join(list, ",")); err != nil {
			return "", err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	leader, err := d.nodes.leader(ctx)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("member %d leads", leader.id), nil
}

func (d *demo) write(ctx context.Context, b *bar) (string, error) {
	records := make([]record, d.opts.Keys)
	for i := range records {
		records[i] = record{fmt.Sprintf("key/%06d", i), smallValue}
	}
	var written atomic.Int64
	start := time.Now()
	err := d.writeAll(ctx, d.opts.Clients, records, func(record) { b.set(written.Add(1), int64(len(records))) })
	d.results.writeRate = float64(len(records)) / time.Since(start).Seconds()
	return fmt.Sprintf("%s writes a second, from %d clients", count(int(d.results.writeRate)), d.opts.Clients), err
}

func (d *demo) read(ctx context.Context, b *bar) (string, error) {
	start := time.Now()
	err := d.readAll(ctx, d.acked.all(), b)
	d.results.readRate = float64(d.acked.len()) / time.Since(start).Seconds()
	return fmt.Sprintf("%s reads a second", count(int(d.results.readRate))), err
}

// killLeader kills the leader between writes, and measures for how long none is
// acknowledged.
func (d *demo) killLeader(ctx context.Context, _ *bar) (string, error) {
	leader, err := d.nodes.leader(ctx)
	if err != nil {
		return "", err
	}
	records := make([]record, 1_000_000) // more than there is time for
	for i := range records {
		records[i] = record{fmt.Sprintf("failover/%06d", i), smallValue}
	}
	writing, stop := context.WithCancel(ctx)
	defer stop()
	before := d.acked.len()
	d.acked.watch()
	ended := make(chan error, 1)
	go func() { ended <- d.writeAll(writing, d.opts.Clients, records, func(record) {}) }()
	killing := func() error {
		if err := d.moreWrites(ctx); err != nil {
			return err
		}
		d.nodes.kill(leader)
		return d.moreWrites(ctx)
	}
	err = killing()
	stop()
	if werr := <-ended; err == nil && !errors.Is(werr, context.Canceled) {
		err = werr
	}
	d.results.failOver = d.acked.longestGap()
	return fmt.Sprintf("member %d killed; writes stood still for %s; %s acknowledged",
		leader.id, milliseconds(d.results.failOver), count(d.acked.len()-before)), err
}

// moreWrites waits until writes were acknowledged for some time on end.
func (d *demo) moreWrites(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	const pause = 200 * time.Millisecond // one this long, and the time starts anew
	ticker := time.NewTicker(pause)
	defer ticker.Stop()
	seen, since := d.acked.len(), time.Now()
	for time.Since(since) < calm {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return errors.New("writes do not go on")
		}
		now := d.acked.len()
		if now == seen {
			since = time.Now()
		}
		seen = now
	}
	return nil
}

func (d *demo) restart(ctx context.Context, b *bar) (string, error) {
	up := d.nodes.running()
	down := d.nodes.all[slices.IndexFunc(d.nodes.all, func(n *node) bool { return !slices.Contains(up, n) })]
	leader, err := d.nodes.leader(ctx)
	if err != nil {
		return "", err
	}
	target, err := leader.status(ctx)
	if err != nil {
		return "", err
	}
	start := time.Now()
	if err := d.nodes.start(down); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var first uint64 // what it had applied when it came up
	err = d.nodes.await(ctx, "the restarted member to catch up", func() bool {
		s, err := down.status(ctx)
		if err != nil {
			return false
		}
		if first == 0 {
			first = s.Applied
		}
		b.set(int64(s.Applied), int64(target.Commit))
		return s.Applied >= target.Commit
	})
	d.results.catchUp = time.Since(start)
	return fmt.Sprintf("member %d had applied %s of %s entries when it was up", down.id, count(int(first)), count(int(target.Commit))), err
}

func (d *demo) load(ctx context.Context, b *bar) (string, error) {
	total := int64(d.opts.LoadMiB) << 20
	records := make([]record, (total+largeValue-1)/largeValue)
	for i := range records {
		records[i] = record{fmt.Sprintf("load/%06d", i), largeValue}
	}
	var written atomic.Int64
	start := time.Now()
	err := d.writeAll(ctx, min(d.opts.Clients, 32), records, func(r record) { b.set(written.Add(int64(r.size)), total) })
	if err != nil {
		return "", err
	}
	rate := float64(total) / (1 << 20) / time.Since(start).Seconds()
	var first []string
	for _, n := range d.nodes.running() {
		log, err := n.client.Compact(ctx)
		if err != nil {
			return "", fmt.Errorf("compact the log of member %d: %w", n.id, err)
		}
		s, err := n.status(ctx)
		if err != nil {
			return "", err
		}
		if log.First < 2 || s.DBSize < total {
			return "", fmt.Errorf("member %d has %d bytes of data, and a log that starts at %d", n.id, s.DBSize, log.First)
		}
		first = append(first, count(int(log.First)))
	}
	return fmt.Sprintf("%.0f MiB/s; the logs start at %s now", rate, strings.Join(first, ", ")), nil
}

// join starts a fourth member. Its part of the log is gone, so that it can only
// catch up by snapshot.
func (d *demo) join(ctx context.Context, b *bar) (string, error) {
	n := d.nodes.all[founders]
	start := time.Now()
	if err := d.nodes.start(n, "-join", d.nodes.all[0].clientURL); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var s api.Status
	err := d.nodes.await(ctx, "the fourth member to catch up", func() bool {
		var err error
		if s, err = n.status(ctx); err != nil {
			return false
		}
		for _, t := range s.Transport.Receiving {
			b.set(t.Bytes, t.Total)
			b.say(mebibytes(int64(t.Rate)) + "/s")
		}
		if s.Snapshots.Received > 0 {
			b.set(s.Snapshots.LastReceivedBytes, s.Snapshots.LastReceivedBytes)
		}
		return votes(s, n.id)
	})
	if err != nil {
		return "", err
	}
	d.results.joined = time.Since(start)
	d.results.snapshotBytes, d.results.snapshotTime = s.Snapshots.LastReceivedBytes, s.Snapshots.LastReceivedTime
	if s.Snapshots.Received == 0 || d.results.snapshotBytes < int64(d.opts.LoadMiB)<<20 {
		return "", fmt.Errorf("it got %d snapshots, the last of %d bytes", s.Snapshots.Received, d.results.snapshotBytes)
	}
	return fmt.Sprintf("snapshot of %s in %s; it votes", mebibytes(d.results.snapshotBytes), milliseconds(d.results.snapshotTime)), nil
}

// votes says whether the member counts towards majorities, as it sees it.
func votes(s api.Status, id uint64) bool {
	for _, m := range s.Members {
		if m.ID == id {
			return !m.Learner
		}
	}
	return false
}

// remove removes a founding member that does not lead.
func (d *demo) remove(ctx context.Context, _ *bar) (string, error) {
	leader, err := d.nodes.leader(ctx)
	if err != nil {
		return "", err
	}
	gone := d.nodes.all[0]
	if gone == leader {
		gone = d.nodes.all[1]
	}
	if _, err := leader.client.RemoveMember(ctx, gone.id); err != nil {
		return "", err
	}
	start := time.Now()
	select {
	case <-gone.exited:
	case <-time.After(patience):
		return "", fmt.Errorf("member %d was removed, and goes on", gone.id)
	case <-ctx.Done():
		return "", ctx.Err()
	}
	if gone.err != nil {
		return "", fmt.Errorf("member %d was removed, and ended with: %w", gone.id, gone.err)
	}
	return fmt.Sprintf("member %d ended with exit code 0, %s after", gone.id, milliseconds(time.Since(start))), nil
}

func (d *demo) verify(ctx context.Context, b *bar) (string, error) {
	if err := d.readAll(ctx, d.acked.all(), b); err != nil {
		return "", err
	}
	return fmt.Sprintf("all %s are there", count(d.acked.len())), nil
}

// compare waits until all members have applied the same entries, and compares
// what they have.
func (d *demo) compare(ctx context.Context, _ *bar) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var ids []string
	var applied uint64
	var hash string
	var differ error
	err := d.nodes.await(ctx, "all members to have applied the same entries", func() bool {
		ids = nil
		for i, n := range d.nodes.running() {
			digest, err := n.client.Digest(ctx)
			if err != nil {
				return false
			}
			if i == 0 {
				applied, hash = digest.Applied, digest.Hash
			}
			if digest.Applied != applied {
				return false
			}
			if digest.Hash != hash {
				differ = fmt.Errorf("member %d has %s, others have %s, all after entry %d", n.id, digest.Hash, hash, applied)
			}
			ids = append(ids, fmt.Sprint(n.id))
		}
		return true
	})
	if err = errors.Join(err, differ); err != nil {
		return "", err
	}
	return fmt.Sprintf("members %s: SHA-256 %s… after entry %s", strings.Join(ids, ", "), hash[:16], count(int(applied))), nil
}

func milliseconds(d time.Duration) string { return d.Round(time.Millisecond).String() }
