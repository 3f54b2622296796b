package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// What a member may have more than all had at the beginning. Streams come and go with posts, which have connections of their
// own for some seconds; a leader has more to do than others.
const (
	moreGoroutines  = 25
	moreDescriptors = 12
	shrinkTime      = 30 * time.Second // until what was needed for faults must be gone
)

// footprint is what a process has of the system.
type footprint struct{ goroutines, descriptors int }

// within says whether it is no more than a limit.
func (f footprint) within(limit footprint) bool {
	return f.goroutines <= limit.goroutines && f.descriptors <= limit.descriptors
}

func (f footprint) most(o footprint) footprint {
	return footprint{max(f.goroutines, o.goroutines), max(f.descriptors, o.descriptors)}
}

// footprint measures a member. Descriptors are 0 where there is no /proc.
func (c *cluster) footprint(ctx context.Context, m *member) (f footprint, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	a, err := c.client.do(ctx, http.MethodGet, m.client+"/metrics", "")
	if err != nil {
		return f, err
	}
	if f.goroutines, err = metric(a.body, "go_goroutines"); err != nil {
		return f, err
	}
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", m.running()))
	if os.IsNotExist(err) {
		err = nil
	}
	f.descriptors = len(entries)
	return f, err
}

// metric returns a figure of a page for Prometheus.
func metric(page []byte, name string) (int, error) {
	for lines := bufio.NewScanner(bytes.NewReader(page)); lines.Scan(); {
		if text, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			f, err := strconv.ParseFloat(text, 64)
			return int(f), err
		}
	}
	return 0, fmt.Errorf("no %s among the metrics", name)
}

// measure returns the most that any member has, of each.
func (c *cluster) measure(ctx context.Context) (most footprint, err error) {
	c.client.http.CloseIdleConnections()
	for _, m := range c.members {
		f, err := c.footprint(ctx, m)
		if err != nil {
			return most, fmt.Errorf("member %s: %w", m.name(), err)
		}
		most = most.most(f)
	}
	return most, nil
}

// shrunk waits until no member has more than at the beginning, and some.
func (c *cluster) shrunk(ctx context.Context, first footprint, within time.Duration) (last footprint, err error) {
	limit := footprint{first.goroutines + moreGoroutines, first.descriptors + moreDescriptors}
	for deadline := time.Now().Add(within); ; wait(ctx, time.Second) {
		last, err = c.measure(ctx)
		switch {
		case err == nil && last.within(limit):
			return last, nil
		case ctx.Err() != nil:
			return last, ctx.Err()
		case time.Now().After(deadline):
			return last, fmt.Errorf("%v after all faults have ended, a member has %d goroutines and %d descriptors; at the beginning, none had more than %d and %d (%w)",
				within, last.goroutines, last.descriptors, first.goroutines, first.descriptors, errOr(err, "all answer"))
		}
	}
}
