package statuspage_test

import (
	"context"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/statuspage"
)

// TestFacts: what the application says of itself comes first, in its order, in all formats, and escaped.
func TestFacts(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		a := cluster(t, 1, 2)[0]
		h := statuspage.Handler(a, &statuspage.Options{Facts: func(context.Context) []statuspage.Fact {
			return []statuspage.Fact{{"Leader", "2"}, {"Applied index", "4711"}, {"An evil one", evil}}
		}})
		text := get(h, "/").Body.String()
		require.Contains(t, text, "\n\nLeader         2\nApplied index  4711\nAn evil one    ")
		require.Less(t, strings.Index(text, "Leader"), strings.Index(text, "PEER"))
		require.NotContains(t, text, "\x1b")

		page := get(h, "/?format=html").Body.String()
		require.Regexp(t, `(?s)<dt>Leader</dt><dd>2</dd>.*<dt>Applied index</dt><dd>4711</dd>`, page)
		require.Less(t, strings.Index(page, "<dt>Leader"), strings.Index(page, `id="cluster"`))
		require.NotContains(t, page, "<img")

		w := get(h, "/?format=json")
		require.Equal(t, []statuspage.Fact{{"Leader", "2"}, {"Applied index", "4711"}, {"An evil one", evil}}, decode(t, w).Application.Facts)
		require.Less(t, strings.Index(w.Body.String(), `"application"`), strings.Index(w.Body.String(), `"local"`))

		h = statuspage.Handler(a, nil)
		require.NotContains(t, get(h, "/?format=json").Body.String(), "application")
		require.NotContains(t, get(h, "/?format=html").Body.String(), `id="application"`)
		h = statuspage.Handler(&rafthttp.Transport{}, &statuspage.Options{Facts: func(context.Context) []statuspage.Fact {
			return []statuspage.Fact{{"State", "reading the log"}}
		}})
		require.Contains(t, get(h, "/").Body.String(), "The transport is not started.\n\nState  reading the log\n")
		require.Contains(t, get(h, "/?format=html").Body.String(), "<dt>State</dt><dd>reading the log</dd>")
	})
}

// requireWithoutFacts requires that the page shows the transport, and the reason why there are no facts.
func requireWithoutFacts(t *testing.T, o *statuspage.Options, a *rafthttp.Transport, reason string) {
	t.Helper()
	h := statuspage.Handler(a, o)
	for range 2 {
		d := decode(t, get(h, "/?format=json"))
		require.Equal(t, "ok", d.Health)
		require.Contains(t, d.Application.Error, reason)
		require.Empty(t, d.Application.Facts)
		require.Regexp(t, `(?s)application: `+reason+`.*PEER`, get(h, "/").Body.String())
		require.Regexp(t, `(?s)id="application".*`+reason+`.*id="peer-2"`, get(h, "/?format=html").Body.String())
	}
}

// TestFactsPanic: a panic is shown, and costs nothing else.
func TestFactsPanic(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		a := cluster(t, 1, 2)[0]
		requireWithoutFacts(t, &statuspage.Options{Facts: func(context.Context) []statuspage.Fact { panic("no lock") }}, a, "Facts panicked: no lock")
		requireWithoutFacts(t, &statuspage.Options{Facts: func(context.Context) []statuspage.Fact {
			runtime.Goexit()
			return nil
		}}, a, "Facts did not return")
		h := statuspage.Handler(a, &statuspage.Options{Name: func(uint64) string { panic("no name") }})
		require.Equal(t, "1", decode(t, get(h, "/?format=json")).Local.Member)
	})
}

// TestFactsSlow: a page waits for a second, and nothing is called again before it has returned.
func TestFactsSlow(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		a := cluster(t, 1, 2)[0]
		var calls atomic.Int32
		release := make(chan struct{})
		o := &statuspage.Options{Facts: func(ctx context.Context) []statuspage.Fact {
			if calls.Add(1) == 1 {
				<-ctx.Done() // after a second, which this call disregards
				<-release
			}
			return []statuspage.Fact{{"Leader", "2"}}
		}}
		before := time.Now()
		h := statuspage.Handler(a, o)
		require.Equal(t, "Facts has not returned for 1.0 s", decode(t, get(h, "/?format=json")).Application.Error)
		require.Equal(t, time.Second, time.Since(before))
		before = time.Now()
		require.Contains(t, get(h, "/?format=html").Body.String(), "Facts has not returned for 1.0 s")
		require.Zero(t, time.Since(before), "a page does not wait again for the same call")
		time.Sleep(time.Minute)
		require.Contains(t, get(h, "/").Body.String(), "application: Facts has not returned for 1 min 1 s\n")
		require.EqualValues(t, 1, calls.Load())
		close(release)
		time.Sleep(time.Second)
		require.Equal(t, []statuspage.Fact{{"Leader", "2"}}, decode(t, get(h, "/?format=json")).Application.Facts, "the next call")
		require.EqualValues(t, 2, calls.Load())
		o = &statuspage.Options{Facts: func(context.Context) []statuspage.Fact {
			calls.Add(1)
			time.Sleep(500 * time.Millisecond)
			return []statuspage.Fact{{"Leader", "2"}}
		}}
		done := make(chan struct{})
		h = statuspage.Handler(a, o)
		calls.Store(0)
		go func() {
			defer close(done)
			get(h, "/")
		}()
		time.Sleep(100 * time.Millisecond)
		require.Contains(t, get(h, "/").Body.String(), "Leader  2\n")
		<-done
		require.EqualValues(t, 1, calls.Load(), "requests at the same time share a call")
	})
}
