package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/seed-4d73690b/rafthttp/chaos/internal/history"
)

const (
	clients   = 12
	keys      = 6                     // in an era, that all clients write and read
	thinkTime = 40 * time.Millisecond // at most, between operations of a client
	patience  = 3 * time.Second       // of a client with one operation, at most
	largest   = 20_000                // bytes of a value
)

// value is what a client writes: its name, which nothing else has, and some bytes that follow from it.
func value(name string, n int) string {
	head := fmt.Sprintf("%s %d ", name, n)
	return head + strings.Repeat(string('a'+rune(n%26)), n)
}

// nameOf returns the name of a value, and whether it is whole.
func nameOf(v string) (name string, ok bool) {
	name, rest, _ := strings.Cut(v, " ")
	var n int
	if _, err := fmt.Sscanf(rest, "%d ", &n); err != nil {
		return "", false
	}
	return name, v == value(name, n)
}

// load is clients that write, read and swap, each at any member.
type load struct {
	c        *cluster
	log      *history.Log
	patience time.Duration // with one operation, at most

	mu    sync.Mutex
	etags map[string]string // name of a value, by its ETag
	tags  map[string]string // the other way round
	n     int
}

func newLoad(c *cluster) *load {
	return &load{c: c, log: history.NewLog(), patience: patience, etags: make(map[string]string), tags: make(map[string]string)}
}

// newValue returns a value that nobody has written.
func (l *load) newValue(client, n int) (name, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.n++
	name = fmt.Sprintf("%d.%d", client, l.n)
	text = value(name, n)
	etag := etagOf(text)
	l.etags[etag], l.tags[name] = name, etag
	return name, text
}

func (l *load) byETag(etag string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.etags[etag]
}

// run has all clients work until ctx ends.
func (l *load) run(ctx context.Context, seed uint64, era int) {
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			w := &worker{load: l, id: i + 1, rand: rand.New(rand.NewPCG(seed, uint64(era*clients+i)+2)), last: make(map[string]string)}
			w.run(ctx, era)
		})
	}
	wg.Wait()
}

// worker is one client.
type worker struct {
	*load
	id   int
	rand *rand.Rand
	last map[string]string // what a key had when this client saw it
	once int
}

func (w *worker) run(ctx context.Context, era int) {
	for {
		select {
		case <-time.After(time.Duration(w.rand.Int64N(int64(thinkTime)))):
		case <-ctx.Done():
			return
		}
		m := w.c.members[w.rand.IntN(len(w.c.members))]
		op := history.Op{Client: w.id, Member: m.name(), Key: fmt.Sprintf("%d/%d", era, w.rand.IntN(keys))}
		switch what := w.rand.IntN(20); {
		case what < 8:
			op.Kind = history.Read
		case what < 13:
			op.Kind = history.Write
		case what < 18:
			op.Kind, op.Expect = history.Swap, w.last[op.Key]
		default: // a key that is written once, and then has to stay
			w.once++
			op.Kind, op.Key = history.Write, fmt.Sprintf("%d/c%d/%d", era, w.id, w.once)
		}
		w.do(ctx, m, op)
	}
}

// do carries out one operation, which has its patience also when ctx ends.
func (w *worker) do(ctx context.Context, m *member, op history.Op) {
	patience := w.patience/10 + time.Duration(w.rand.Int64N(int64(w.patience*9/10)))
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	size := w.rand.IntN(200)
	if w.rand.IntN(40) == 0 {
		size = w.rand.IntN(largest)
	}
	w.load.do(ctx, m, &op, size)
	switch {
	case op.Outcome == history.Done && op.Kind == history.Read, op.Outcome == history.Differs:
		w.last[op.Key] = op.Found
	case op.Outcome == history.Done:
		w.last[op.Key] = op.Value
	}
}

// do carries out one operation at a member, and logs it.
func (l *load) do(ctx context.Context, m *member, op *history.Op, size int) {
	url, method, text := m.client+"/kv/"+strings.ReplaceAll(op.Key, "/", "%2F"), http.MethodGet, ""
	var header []string
	if op.Kind != history.Read {
		method = http.MethodPut
		op.Value, text = l.newValue(op.Client, size)
	}
	if op.Kind == history.Swap && op.Expect == history.None {
		header = []string{"If-None-Match", "*"}
	} else if op.Kind == history.Swap {
		l.mu.Lock()
		header = []string{"If-Match", l.tags[op.Expect]}
		l.mu.Unlock()
	}
	op.Call = l.log.Now()
	a, err := l.c.client.do(ctx, method, url, text, header...)
	op.Return = l.log.Now()
	if err == nil {
		err = l.outcome(op, a)
	} else {
		op.Outcome = history.Unknown
		if op.Kind == history.Read || notSent(err) {
			op.Outcome = history.Refused
		}
		op.Error = err.Error()
	}
	if err != nil && op.Outcome == "" {
		l.c.violated(fmt.Errorf("member %s, %s of key %s: %w", m.name(), op.Kind, op.Key, err))
		op.Outcome, op.Error = history.Unknown, err.Error()
	}
	l.log.Add(*op)
}

// outcome says what an answer means. It leaves the outcome empty if the answer must not be.
func (l *load) outcome(op *history.Op, a *answer) error {
	switch {
	case a.status == http.StatusOK && op.Kind == history.Read:
		name, whole := nameOf(string(a.body))
		if !whole || l.byETag(a.etag) != name {
			return fmt.Errorf("a value that nobody wrote, of %d bytes, with ETag %s", len(a.body), a.etag)
		}
		op.Outcome, op.Found = history.Done, name
	case a.status == http.StatusOK:
		op.Outcome = history.Done
	case a.code == "key_not_found" && op.Kind == history.Read:
		op.Outcome, op.Found = history.Done, history.None
	case a.code == "changed" && op.Kind == history.Swap:
		if op.Found = l.byETag(a.etag); a.etag != "" && op.Found == "" {
			return fmt.Errorf("a value that nobody wrote, with ETag %s", a.etag)
		}
		op.Outcome = history.Differs
	case a.status == http.StatusServiceUnavailable || a.status == http.StatusGatewayTimeout:
		op.Error = a.code
		op.Outcome = history.Unknown
		if op.Kind == history.Read || a.code == "dropped" || a.code == "overloaded" {
			op.Outcome = history.Refused // it was not even proposed
		}
	default:
		return fmt.Errorf("an answer that must not be: %w", a.err())
	}
	return nil
}
