package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/seed-4d73690b/rafthttp/chaos/internal/history"
)

const (
	eraTime    = 45 * time.Second // of faults, at most
	settleTime = time.Minute      // until all must be well, once everything is mended
	judgeTime  = time.Minute      // for one key of one era; it takes milliseconds
	lastTries  = 10               // to read, when all is well
	foundTime  = 30 * time.Second // until a cluster that was just founded must be well
)

// trial is one cluster over time: eras of faults, after each of which everything is mended and looked at.
type trial struct {
	c       *cluster
	nemesis *nemesis
	load    *load
	seed    uint64
	out     io.Writer

	shrink time.Duration // shrinkTime, but for tests, as the next
	settle time.Duration // settleTime
	report report
	first  footprint
	expect map[string]string   // what all keys must have, for good: those of eras that are over
	late   map[string][]string // what else they may have: see history.Late
}

func newTrial(c *cluster, seed uint64, faults []fault, out io.Writer) *trial {
	t := &trial{c: c, seed: seed, out: out, shrink: shrinkTime, settle: settleTime, nemesis: newNemesis(c, seed, faults), load: newLoad(c), expect: make(map[string]string), late: make(map[string][]string)}
	t.report.faults = t.nemesis.counts
	return t
}

// errInterrupted is how a trial ends that found nothing until its context ended.
var errInterrupted = errors.New("interrupted")

// run goes on until a time has passed or ctx ends. Its error is a violation, or errInterrupted.
func (t *trial) run(ctx context.Context, d time.Duration) error {
	start := time.Now()
	err := t.eras(ctx, d)
	t.report.took = time.Since(start)
	if interrupted(ctx) && t.c.err() == nil {
		return errInterrupted
	}
	return err
}

func (t *trial) eras(ctx context.Context, d time.Duration) error {
	start := time.Now()
	if err := t.c.settle(ctx, foundTime); err != nil {
		return err
	}
	var err error
	if t.first, err = t.c.measure(ctx); err != nil {
		return err
	}
	t.report.first = t.first
	for left := d; left > 0 && ctx.Err() == nil; left = d - time.Since(start) {
		if err := t.era(ctx, min(eraTime, left)); err != nil {
			return err
		}
	}
	return t.reread(ctx)
}

// era lets clients and the nemesis have their way, then mends everything and looks.
func (t *trial) era(ctx context.Context, d time.Duration) error {
	kinds := t.nemesis.draw()
	t.c.note("===== era %d: %s", t.report.eras, kindNames(kinds))
	raging, cancel := context.WithTimeout(ctx, d)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		t.load.run(raging, t.seed, t.report.eras)
	}()
	go func() {
		select {
		case <-t.c.broken:
			cancel()
		case <-raging.Done():
		}
	}()
	t.nemesis.rage(raging, kinds)
	cancel()
	t.nemesis.mend()
	<-ended
	if interrupted(ctx) && t.c.err() == nil {
		return nil
	}
	mended := time.Now()
	if err := t.c.settle(ctx, t.settle); err != nil {
		return t.failed(t.load.log.Take(), err)
	}
	settled := time.Since(mended)
	t.report.slowest = max(t.report.slowest, settled)
	if err := t.judge(ctx); err != nil {
		return err
	}
	last, err := t.c.shrunk(ctx, t.first, t.shrink)
	if err != nil {
		return err
	}
	t.report.last = last
	t.observe(ctx)
	t.report.eras++
	fmt.Fprintf(t.out, "era %3d: %5d operations so far, %3d faults; settled after %.1fs; %d goroutines, %d descriptors at most  (%s)\n",
		t.report.eras, t.report.checked, t.report.total(), settled.Seconds(), last.goroutines, last.descriptors, kindNames(kinds))
	return t.c.err()
}

// interrupted says whether nobody waits for the rest.
func interrupted(ctx context.Context) bool { return ctx.Err() != nil }

func kindNames(kinds []fault) string {
	var all []string
	for _, k := range kinds {
		all = append(all, k.name)
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// judge reads all keys of the era at all members, and judges the era's history.
func (t *trial) judge(ctx context.Context) error {
	for key := range keys {
		for _, m := range t.c.members {
			if err := t.readLast(ctx, m, fmt.Sprintf("%d/%d", t.report.eras, key)); err != nil {
				return t.failed(t.load.log.Take(), err)
			}
		}
	}
	ops := t.load.log.Take()
	if t.c.err() != nil {
		return t.failed(ops, t.c.err())
	}
	t.report.add(ops)
	checked, v := history.Judge(ops, judgeTime)
	t.report.checked += checked
	if v != nil {
		t.c.violated(v)
		return t.failed(ops, errors.Join(v, v.Visualize(filepath.Join(t.c.dir, "violation.html"))))
	}
	if err := t.keep(ctx, ops); err != nil {
		return t.failed(ops, err)
	}
	return t.save(ops) // what is read again in the end may be wrong
}

// readLast reads what a key has at the end of an era. On a busy machine a cluster that is well may lose its leader once.
func (t *trial) readLast(ctx context.Context, m *member, key string) error {
	for range lastTries {
		op := history.Op{Member: m.name(), Kind: history.Read, Key: key}
		if t.load.do(ctx, m, &op, 0); op.Outcome == history.Done {
			return nil
		}
		t.c.note("member %s, last read of %s: %s", m.name(), key, op.Error)
	}
	return fmt.Errorf("all is well, and member %s does not answer", m.name())
}

// keep requires that every write to a key of its own that was acknowledged is there, and remembers what all keys of the era
// must have from now on.
func (t *trial) keep(ctx context.Context, ops []history.Op) error {
	acknowledged := history.Acknowledged(ops)
	for _, op := range ops {
		if op.Kind == history.Read && op.Client == 0 && op.Outcome == history.Done && op.Found != history.None {
			t.expect[op.Key] = op.Found // as it was read at the last member, when nobody wrote
		}
	}
	maps.Copy(t.late, history.Late(ops, t.expect))
	for key, values := range acknowledged {
		if strings.Count(key, "/") < 2 {
			continue
		}
		if err := t.has(ctx, t.c.members[t.report.eras%size], key, values[0]); err != nil {
			return err
		}
		t.report.kept++
		t.expect[key] = values[0]
	}
	return nil
}

// has requires that a key has a value, or one that was written late, as one member says: all are the same.
func (t *trial) has(ctx context.Context, m *member, key, name string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	a, err := t.c.client.do(ctx, http.MethodGet, m.client+"/kv/"+strings.ReplaceAll(key, "/", "%2F")+"?stale=true", "")
	if err != nil {
		return err
	}
	found, _ := nameOf(string(a.body))
	if a.status != http.StatusOK || found != name && !slices.Contains(t.late[key], found) {
		t.c.violated(fmt.Errorf("an acknowledged write is lost: member %s has %q (%d) for key %s, where %s was written", m.name(), found, a.status, key, name))
		return t.c.err()
	}
	return nil
}

// reread requires that everything that was ever acknowledged is still there, in the end.
func (t *trial) reread(ctx context.Context) error {
	for key, name := range t.expect {
		if err := t.has(ctx, t.c.members[0], key, name); err != nil {
			return err
		}
		t.report.reread++
	}
	return t.c.compare(ctx)
}

// failed keeps the history of an era that went wrong.
func (t *trial) failed(ops []history.Op, err error) error { return errors.Join(err, t.save(ops)) }

func (t *trial) save(ops []history.Op) error {
	return history.Save(filepath.Join(t.c.dir, fmt.Sprintf("history-%d.jsonl", t.report.eras)), ops)
}

// observe adds what members say of themselves to the report.
func (t *trial) observe(ctx context.Context) {
	if t.c.sharded {
		_, byGroup, _ := t.c.placed(ctx)
		for _, all := range byGroup {
			for _, r := range all {
				t.report.term = max(t.report.term, r.Term)
			}
		}
		return
	}
	all, err := t.c.statuses(ctx)
	if err != nil {
		return
	}
	for _, s := range all {
		t.report.term = max(t.report.term, s.Term)
	}
}
