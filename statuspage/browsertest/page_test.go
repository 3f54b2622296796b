package browsertest

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
)

// console keeps what the browser complains of: exceptions, and what it logs by
// itself, such as a breach of the content security policy.
type console struct{ lines chan string }

func watchConsole(ctx context.Context) *console {
	c := &console{make(chan string, 100)}
	note := func(format string, args ...any) {
		select {
		case c.lines <- fmt.Sprintf(format, args...):
		default:
		}
	}
	chromedp.ListenTarget(ctx, func(ev any) {
		switch ev := ev.(type) {
		case *runtime.EventExceptionThrown:
			note("exception: %s", ev.ExceptionDetails.Error())
		case *runtime.EventConsoleAPICalled:
			note("console: %s", ev.Type)
		case *log.EventEntryAdded:
			note("%s: %s %s", ev.Entry.Level, ev.Entry.Text, ev.Entry.URL)
		}
	})
	return c
}

func (c *console) requireEmpty(t *testing.T) {
	t.Helper()
	select {
	case line := <-c.lines:
		require.Fail(t, "the console is not empty", line)
	default:
	}
}

func run(ctx context.Context, t *testing.T, actions ...chromedp.Action) {
	t.Helper()
	require.NoError(t, chromedp.Run(ctx, actions...))
}

func eval[T any](ctx context.Context, t *testing.T, js string) (v T) {
	t.Helper()
	run(ctx, t, chromedp.Evaluate(js, &v))
	return v
}

func text(ctx context.Context, t *testing.T, selector string) string {
	t.Helper()
	return strings.TrimSpace(eval[string](ctx, t, fmt.Sprintf(`document.querySelector(%q).textContent`, selector)))
}

// fact is the value of a fact of a peer's card.
func fact(ctx context.Context, t *testing.T, peer, name string) string {
	t.Helper()
	return eval[string](ctx, t, fmt.Sprintf(
		`[...document.querySelectorAll("#peer-%s .facts > div")].find(d => d.querySelector("dt").textContent === %q).querySelector("dd").textContent`, peer, name))
}

// lane is the cells of a lane's row, by label.
func lane(ctx context.Context, t *testing.T, peer, name string) map[string]string {
	t.Helper()
	return eval[map[string]string](ctx, t, fmt.Sprintf(
		`Object.fromEntries([...[...document.querySelectorAll("#peer-%s .lanes tbody tr")].find(r => r.querySelector("th code")?.textContent === %q).querySelectorAll("td")].map(c => [c.dataset.label, c.textContent.trim()]))`, peer, name))
}

// TestPage: the page shows what Status says, refreshes by itself without
// complaints, and keeps what its reader did to it.
func TestPage(t *testing.T) {
	findBrowser(t)
	s := newScene(t, 3, nil)
	s.waitActive(t)
	ctx := newTab(t)
	c := watchConsole(ctx)
	run(ctx, t, chromedp.Navigate(s.url))
	require.Equal(t, "All 2 peers are healthy.", text(ctx, t, "#summary"))
	require.Equal(t, "member 1 – rafthttp", eval[string](ctx, t, "document.title"))
	require.Equal(t, "Leader", text(ctx, t, "#main dt"), "the facts of the application are first")
	require.InDelta(t, 4, eval[float64](ctx, t, `document.querySelectorAll(".picture .link.ok").length`), 0)
	require.Equal(t, "0", lane(ctx, t, "2", "msgapp")["Messages"])

	// What the reader does outlives a refresh.
	run(ctx, t, chromedp.Click("#peer-3 > summary"), chromedp.Evaluate(`document.querySelector('.picture a[href="#peer-2"]').focus()`, nil),
		chromedp.Evaluate(`window.same = document.querySelector("#peer-2")`, nil))
	for i := range uint64(7) {
		s.members[0].Send([]*raftpb.Message{message(raftpb.MsgApp, 2, 1, i, []byte("x"))})
	}
	run(ctx, t, chromedp.Poll(`[...document.querySelectorAll("#peer-2 .lanes td")].some(c => c.dataset.label === "Messages" && c.textContent === "7")`, nil))
	require.True(t, eval[bool](ctx, t, `document.querySelector("#peer-3").open`))
	require.False(t, eval[bool](ctx, t, `document.querySelector("#peer-2").open`))
	require.True(t, eval[bool](ctx, t, `document.activeElement === document.querySelector('.picture a[href="#peer-2"]')`), "the focus stays")
	require.True(t, eval[bool](ctx, t, `window.same === document.querySelector("#peer-2")`), "elements are changed, not replaced")
	require.Equal(t, "Live, as of", text(ctx, t, "#live"))

	run(ctx, t, chromedp.Click("#pause"))
	requireStatus(ctx, t, s)
	c.requireEmpty(t)
}

// requireStatus compares the page, which is paused, to the Status of its moment:
// nothing moves that is compared.
func requireStatus(ctx context.Context, t *testing.T, s *scene) {
	t.Helper()
	require.Equal(t, "Paused at", text(ctx, t, "#live"))
	for _, p := range s.members[0].Status().Peers {
		id := p.ID.String()
		require.Equal(t, "active", text(ctx, t, "#peer-"+id+" h2 .badge"))
		require.Equal(t, p.URLs[0], text(ctx, t, "#peer-"+id+" .urls"))
		require.Equal(t, p.Version, fact(ctx, t, id, "Version"))
		require.Equal(t, "0", fact(ctx, t, id, "Dropped"))
		since := eval[string](ctx, t, fmt.Sprintf(`document.querySelector("#peer-%s .facts time").dateTime`, id))
		require.Equal(t, p.ActiveSince.UTC().Format(time.RFC3339), since)
		for _, l := range p.Lanes {
			row := lane(ctx, t, id, l.Name)
			require.Equal(t, fmt.Sprint(l.Messages), row["Messages"], l.Name)
			require.Equal(t, fmt.Sprint(l.Dropped), row["Dropped"], l.Name)
			require.Equal(t, "0 0 %", strings.Join(strings.Fields(row["Fill"]), " "), l.Name)
		}
		for i, stream := range p.Streams {
			cells := eval[[]string](ctx, t, fmt.Sprintf(`[...document.querySelectorAll("#peer-%s .streams tbody tr")[%d].children].map(c => c.textContent)`, id, i))
			require.Equal(t, []string{stream.Name, "up", fmt.Sprint(stream.Connects)}, []string{cells[0], cells[2], cells[4]})
		}
	}
}

// TestSickPage: a peer that is gone is seen without a reload, as is a server that
// does not answer any more.
func TestSickPage(t *testing.T) {
	findBrowser(t)
	s := newScene(t, 3, func(tr *rafthttp.Transport) { tr.SnapshotRateLimit = slowSnapshots })
	s.waitActive(t)
	ctx := newTab(t)
	c := watchConsole(ctx)
	run(ctx, t, chromedp.Navigate(s.url))
	s.sendSnapshot(t, s.members[0], s.members[1], 1<<30)
	run(ctx, t, chromedp.Poll(`document.querySelector("#peer-2 progress")?.value < 50`, nil))
	run(ctx, t, chromedp.Evaluate(`document.querySelector("#peer-3 > summary").focus()`, nil))
	s.members[2].Stop()
	_ = s.members[2].server.Close()
	run(ctx, t, chromedp.Poll(`document.querySelector("#peer-3").classList.contains("bad")`, nil))
	require.Regexp(t, `^1 of 2 peers active: 3 is down: .+`, text(ctx, t, "#summary"))
	require.True(t, eval[bool](ctx, t, `document.querySelector("#peer-3").open`), "a peer that becomes sick opens")
	require.False(t, eval[bool](ctx, t, `document.querySelector("#peer-2").open`))
	require.Equal(t, "peer-3", eval[string](ctx, t, `document.querySelector("#peers").firstElementChild.id`), "and comes first")
	require.Equal(t, "#peer-3", eval[string](ctx, t, `document.activeElement.parentElement.id && "#" + document.activeElement.parentElement.id`), "the focus moves with it")
	run(ctx, t, chromedp.Click("#peer-3 > summary"), chromedp.Evaluate(`window.taken = document.querySelector("header time").dateTime`, nil),
		chromedp.Poll(`document.querySelector("header time").dateTime > window.taken`, nil))
	require.False(t, eval[bool](ctx, t, `document.querySelector("#peer-3").open`), "what the reader closed stays closed")
	run(ctx, t, chromedp.Click(`.picture a[href="#peer-3"]`))
	require.True(t, eval[bool](ctx, t, `document.querySelector("#peer-3").open`), "the picture opens it")
	require.Equal(t, "inactive", text(ctx, t, "#peer-3 h2 .badge"))
	require.InDelta(t, 2, eval[float64](ctx, t, `document.querySelectorAll(".picture .link.bad").length`), 0)
	require.Contains(t, text(ctx, t, "#peer-3 .error"), "refused")
	c.requireEmpty(t)

	s.members[0].RemovePeer(3)
	run(ctx, t, chromedp.Poll(`!document.querySelector("#peer-3") && document.querySelector("#peer-2 h2 .badge").textContent === "active"`, nil))
	c.requireEmpty(t)

	s.page.CloseClientConnections()
	s.page.Close()
	run(ctx, t, chromedp.Poll(`!document.querySelector("#lost").hidden`, nil))
	require.Contains(t, text(ctx, t, "#lost"), "the data shown is old")
}

// TestWithoutJavaScript: everything is there, and nothing that would not work.
func TestWithoutJavaScript(t *testing.T) {
	findBrowser(t)
	s := newScene(t, 2, nil)
	s.waitActive(t)
	ctx := newTab(t)
	c := watchConsole(ctx)
	run(ctx, t, emulation.SetScriptExecutionDisabled(true), chromedp.Navigate(s.url))
	var summary string
	var pause, reload map[string]string
	run(ctx, t, chromedp.Text("#summary", &summary), chromedp.Attributes("#pause", &pause), chromedp.Attributes("#reload", &reload))
	require.Equal(t, "The only peer is healthy.", summary)
	require.Contains(t, pause, "hidden")
	require.NotContains(t, reload, "hidden")
	s.members[1].Stop()
	_ = s.members[1].server.Close()
	eventually(t, func() bool { return s.members[0].ActivePeers() == 0 })
	run(ctx, t, chromedp.Click("#reload"), chromedp.WaitVisible("#peer-2.bad"))
	c.requireEmpty(t)
}

// TestWidths: no width from a phone's on has something beyond its edge.
func TestWidths(t *testing.T) {
	findBrowser(t)
	s := newScene(t, 4, nil)
	s.waitActive(t)
	ctx := newTab(t)
	for _, width := range []int64{320, 390, 600, 768, 1024, 1440} {
		run(ctx, t, chromedp.EmulateViewport(width, 800), chromedp.Navigate(s.url))
		require.LessOrEqual(t, eval[float64](ctx, t, "document.documentElement.scrollWidth"), float64(width))
		run(ctx, t, chromedp.Evaluate(`document.querySelectorAll("details").forEach(d => { d.open = true; })`, nil))
		require.LessOrEqual(t, eval[float64](ctx, t, "document.documentElement.scrollWidth"), float64(width), "with all cards open")
		require.Empty(t, eval[[]string](ctx, t, holes), "at a width of %d", width)
	}
}

// holes are the grids whose rows are not all full: columns are counted by where cells begin, and one that spans
// several counts as so many.
const holes = `(() => {
  const bad = [];
  for (const grid of document.querySelectorAll(".facts, .lanes tr, .streams tr")) {
    const style = getComputedStyle(grid);
    if (style.display !== "grid") continue;
    const columns = style.gridTemplateColumns.split(" ").length, rows = {};
    for (const cell of grid.children) {
      if (!cell.getClientRects().length) continue;
      const s = getComputedStyle(cell), span = s.gridColumnEnd === "-1" ? columns : +(s.gridColumnStart + s.gridColumnEnd).match(/span (\d+)/)?.[1] || 1;
      const row = Math.round(cell.getBoundingClientRect().top / 4);
      rows[row] = (rows[row] || 0) + span;
    }
    if (Object.values(rows).some(n => n !== columns)) bad.push(grid.className + " " + grid.textContent.trim().slice(0, 60) + " " + columns + " " + JSON.stringify(rows));
  }
  return bad;
})()`

// contrast returns the least contrast of text to what is behind it, and where
// that is (WCAG 2.2, 1.4.3).
const contrast = `(() => {
  const rgb = (s) => s.match(/[\d.]+/g).map(Number);
  const lum = ([r, g, b]) => [r, g, b].map(v => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4).reduce((a, v, i) => a + v * [.2126, .7152, .0722][i], 0);
  const behind = (e) => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
  let least = { ratio: 99, text: "" };
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement;
    if (!walk.currentNode.nodeValue.trim() || ["SCRIPT", "STYLE", "TITLE"].includes(e.nodeName) || !e.getClientRects().length || e.closest("svg")) continue;
    const a = lum(rgb(getComputedStyle(e).color)), b = lum(behind(e));
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (ratio < least.ratio) least = { ratio, text: e.nodeName + "." + e.className + " " + walk.currentNode.nodeValue.trim() };
  }
  return least;
})()`

// TestAccessible: text stands out in light and dark, in health and sickness, and
// what can be used can be reached by keyboard and has a name.
func TestAccessible(t *testing.T) {
	findBrowser(t)
	s := newScene(t, 3, func(tr *rafthttp.Transport) { tr.SnapshotRateLimit, tr.ReceiveQueueMessages = slowSnapshots, 4 })
	s.waitActive(t)
	m := s.members[0]
	m.mu.Lock()
	m.process = func(ctx context.Context, _ *raftpb.Message) error {
		<-ctx.Done()
		return ctx.Err()
	}
	m.mu.Unlock()
	for i := range uint64(3) { // a lane with a warning
		s.members[1].Send([]*raftpb.Message{message(raftpb.MsgHeartbeat, 1, 2, i, nil)})
	}
	s.sendSnapshot(t, m, s.members[1], 1<<30)
	s.members[2].Stop()
	_ = s.members[2].server.Close()
	eventually(t, func() bool { return m.ActivePeers() == 1 })
	ctx := newTab(t)
	for _, scheme := range []string{"light", "dark"} {
		run(ctx, t, emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}), chromedp.Navigate(s.url))
		least := eval[struct {
			Ratio float64
			Text  string
		}](ctx, t, contrast)
		require.GreaterOrEqual(t, least.Ratio, 4.5, "%s: %s", scheme, least.Text)
		t.Logf("%s: least contrast %.2f at %s", scheme, least.Ratio, least.Text)
	}
	require.Empty(t, eval[[]string](ctx, t, `[...document.querySelectorAll("a, button, summary, progress, svg[role]")].filter(e => !(e.getAttribute("aria-label") || e.textContent.trim())).map(e => e.outerHTML)`))
	require.Empty(t, eval[[]string](ctx, t, `[...document.querySelectorAll("[id]")].map(e => e.id).filter((id, i, all) => all.indexOf(id) !== i)`), "ids are unique")
	reached := map[string]bool{}
	for range 12 {
		run(ctx, t, chromedp.KeyEvent("\t"))
		reached[eval[string](ctx, t, `(document.activeElement.getAttribute("href") || document.activeElement.id || document.activeElement.nodeName)`)] = true
	}
	for _, want := range []string{"#peers", "pause", "?format=json", "?format=text", "#peer-2", "#peer-3", "SUMMARY"} {
		require.True(t, reached[want], "%s cannot be reached by keyboard: %v", want, reached)
	}
}

// TestAsksNobodyElse: all that the page asks for is itself.
func TestAsksNobodyElse(t *testing.T) {
	findBrowser(t)
	s := newScene(t, 2, nil)
	ctx := newTab(t)
	asked := make(chan string, 100)
	chromedp.ListenTarget(ctx, func(ev any) {
		if ev, ok := ev.(*network.EventRequestWillBeSent); ok {
			select {
			case asked <- ev.Request.URL:
			default:
			}
		}
	})
	run(ctx, t, network.Enable(), chromedp.Navigate(s.url))
	for range 2 { // the page, and a refresh
		require.Equal(t, s.url+"/", next(ctx, t, asked))
	}
}

// next is the next URL that is not part of the page itself.
func next(ctx context.Context, t *testing.T, asked <-chan string) string {
	t.Helper()
	for {
		select {
		case url := <-asked:
			if !strings.HasPrefix(url, "data:") {
				return url
			}
		case <-ctx.Done():
			require.FailNow(t, "nothing is asked for")
		}
	}
}
