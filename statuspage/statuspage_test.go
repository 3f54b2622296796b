package statuspage_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/memnet"
	"github.com/seed-4d73690b/rafthttp/statuspage"
)

// raftFunc is a Raft whose Process is the function.
type raftFunc func(context.Context, *raftpb.Message) error

func (f raftFunc) Process(ctx context.Context, m *raftpb.Message) error {
	if f == nil {
		return nil
	}
	return f(ctx, m)
}
func (raftFunc) IsIDRemoved(uint64) bool                    { return false }
func (raftFunc) ReportUnreachable(uint64)                   {}
func (raftFunc) ReportSnapshot(uint64, raft.SnapshotStatus) {}

func hostOf(id types.ID) string { return "m" + id.String() }

func urlOf(id types.ID) string { return "http://" + hostOf(id) + ":1" }

// startMember runs a member on a network in memory.
func startMember(t *testing.T, n *memnet.Network, id types.ID, tune func(*rafthttp.Transport)) *rafthttp.Transport {
	t.Helper()
	tr := &rafthttp.Transport{ID: id, ClusterID: 0xcafe, Raft: raftFunc(nil), DialContext: n.Host(hostOf(id)).DialContext}
	if tune != nil {
		tune(tr)
	}
	require.NoError(t, tr.Start())
	ln, err := n.Host(hostOf(id)).Listen("1")
	require.NoError(t, err)
	server := &http.Server{Handler: tr.Handler()}
	go func() { _ = server.Serve(ln) }()
	t.Cleanup(func() {
		tr.Stop()
		_ = server.Close()
	})
	return tr
}

// cluster runs members that know each other, in a bubble.
func cluster(t *testing.T, ids ...types.ID) (all []*rafthttp.Transport) {
	t.Helper()
	n := memnet.New()
	for _, id := range ids {
		all = append(all, startMember(t, n, id, nil))
	}
	for _, m := range all {
		for _, id := range ids {
			if id != m.ID {
				m.AddPeer(id, []string{urlOf(id)})
			}
		}
	}
	time.Sleep(10 * time.Second)
	return all
}

func get(h http.Handler, target string, header ...string) *httptest.ResponseRecorder {
	return ask(h, http.MethodGet, target, header...)
}

func ask(h http.Handler, method, target string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// document is what docs/status.md says of the JSON.
type document struct {
	Schema      int
	Health      string
	Application struct {
		Facts []statuspage.Fact
		Error string
	}
	Problems []string
	Local    struct{ Member, Name string }
	Peers    []struct {
		Member, Name, Health string
		Problems, Stale      []string
		Sent                 *float64 `json:"sent_bytes_per_second"`
		Received             *float64 `json:"received_bytes_per_second"`
		Lanes                []struct {
			Name, Health string
			Fill         float64
			Messages     *float64 `json:"messages_per_second"`
			Bytes        *float64 `json:"bytes_per_second"`
			Dropped      *float64 `json:"dropped_per_second"`
			Reasons      []string `json:"drop_reasons"`
		}
	}
	Status rafthttp.Status
}

func decode(t *testing.T, w *httptest.ResponseRecorder) (d document) {
	t.Helper()
	require.Equal(t, http.StatusOK, w.Code)
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &d), w.Body.String())
	return d
}

func TestFormats(t *testing.T) {
	h := statuspage.Handler(&rafthttp.Transport{}, nil)
	const html, text, jsonType = "text/html; charset=utf-8", "text/plain; charset=utf-8", "application/json"
	for _, tt := range []struct {
		name, target, accept, want string
	}{
		{"browser", "/", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", html},
		{"curl", "/", "*/*", text},
		{"nothing", "/", "", text},
		{"json", "/", "application/json", jsonType},
		{"text", "/", "text/plain", text},
		{"parameter before header", "/?format=json", "text/html", jsonType},
		{"page for curl", "/some/where?format=html", "*/*", html},
		{"text for a browser", "/?format=text", "text/html", text},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := get(h, tt.target, "Accept", tt.accept)
			require.Equal(t, http.StatusOK, w.Code)
			require.Equal(t, tt.want, w.Header().Get("Content-Type"))
			require.Equal(t, "nosniff", w.Header().Get("X-Content-Type-Options"))
			require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
			require.Equal(t, "Accept", w.Header().Get("Vary"))
		})
	}
	require.Equal(t, http.StatusBadRequest, get(h, "/?format=xml").Code)
	require.Equal(t, http.StatusBadRequest, get(h, "/?format=").Code)
}

func TestReadOnly(t *testing.T) {
	h := statuspage.Handler(&rafthttp.Transport{}, nil)
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch, http.MethodOptions} {
		w := ask(h, method, "/")
		require.Equal(t, http.StatusMethodNotAllowed, w.Code, method)
		require.Equal(t, "GET, HEAD", w.Header().Get("Allow"))
	}
	server := httptest.NewServer(h)
	defer server.Close()
	resp, err := http.Head(server.URL)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Positive(t, resp.ContentLength)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Empty(t, body)
}

// TestPolicy: the page has its own style and script, word for word, and no other,
// and nothing of it is elsewhere.
func TestPolicy(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		h := statuspage.Handler(cluster(t, 1, 2)[0], nil)
		w := get(h, "/?format=html")
		page, policy := w.Body.String(), w.Header().Get("Content-Security-Policy")
		require.Contains(t, policy, "default-src 'none'")
		require.Contains(t, policy, "frame-ancestors 'none'")
		require.NotContains(t, policy, "unsafe")
		for _, element := range []string{"style", "script"} {
			all := regexp.MustCompile(`(?s)<`+element+`>(.*?)</`+element+`>`).FindAllStringSubmatch(page, -1)
			require.Len(t, all, 1)
			require.Len(t, regexp.MustCompile(`<`+element).FindAllString(page, -1), 1)
			sum := sha256.Sum256([]byte(all[0][1]))
			require.Contains(t, policy, element+"-src 'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'")
		}
		body := page[strings.Index(page, "</style>"):strings.Index(page, "<script>")]
		require.NotRegexp(t, `\bstyle=|\bon[a-z]+=|\bsrc=|https?://`, strings.ReplaceAll(body, urlOf(2), ""))
		for _, link := range regexp.MustCompile(`href="([^"]*)"`).FindAllStringSubmatch(page, -1) {
			require.Regexp(t, `^($|#|\?format=|data:image/svg)`, link[1])
		}
		for _, tag := range []string{"main", "section", "table", "svg", "summary", "tbody", "div", "details", "header", "dl", "ul"} {
			require.Len(t, regexp.MustCompile(`<`+tag+`[ >]`).FindAllString(page, -1), strings.Count(page, "</"+tag+">"), tag)
		}
	})
}

// evil is what a member may say of itself, at its worst.
const evil = `"><script>alert(1)</script><img src=x onerror=alert(2)>` + "\x1b[31m\r\n\u202e&'"

// TestNothingIsUnescaped: what a peer, or the application, has to say is text in
// every format.
func TestNothingIsUnescaped(t *testing.T) {
	liar := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Server-Version", "3.7.0-<script>alert(1)</script>") // net/http itself refuses more
		http.Error(w, evil, http.StatusTeapot)
	}))
	defer liar.Close()
	tr := &rafthttp.Transport{ID: 1, Raft: raftFunc(nil)}
	require.NoError(t, tr.Start())
	defer tr.Stop()
	tr.AddPeer(2, []string{liar.URL})
	tr.Send([]*raftpb.Message{{Type: raftpb.MsgVote.Enum(), To: new(uint64(2))}})
	require.Eventually(t, func() bool { return strings.Contains(tr.Status().Peers[0].LastError, "alert(2)>?[31m") }, 20*time.Second, time.Millisecond)
	h := statuspage.Handler(tr, &statuspage.Options{Title: evil, Name: func(uint64) string { return evil }})

	page := get(h, "/?format=html").Body.String()
	require.NotContains(t, page, "alert(1)</script>")
	require.NotContains(t, page, "<img")
	require.Contains(t, page, "&lt;script&gt;alert(1)")
	text := get(h, "/?format=text").Body.String()
	require.NotContains(t, text, "\x1b")
	require.NotContains(t, text, "\r")
	require.NotContains(t, text, "\u202e")
	require.Contains(t, text, "<script>alert(1)")
	asJSON := get(h, "/?format=json").Body.String()
	require.NotContains(t, asJSON, "<script")
	require.NotContains(t, asJSON, "\x1b")
	require.Contains(t, decode(t, get(h, "/?format=json")).Status.Peers[0].LastError, "<script>alert(1)")
}

func TestNotStarted(t *testing.T) {
	h := statuspage.Handler(&rafthttp.Transport{}, nil)
	require.Contains(t, get(h, "/?format=html").Body.String(), "The transport is not started.")
	require.Contains(t, get(h, "/").Body.String(), "The transport is not started.")
	require.Zero(t, decode(t, get(h, "/?format=json")).Status)
}

// TestJSON: the document has the whole Status, and what was made of it.
func TestJSON(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		all := cluster(t, 0x1f, 2, 3)
		h := statuspage.Handler(all[0], &statuspage.Options{Name: func(id uint64) string {
			return map[uint64]string{2: "two"}[id]
		}})
		d := decode(t, get(h, "/?format=json"))
		want := all[0].Status()
		require.True(t, want.Time.Equal(d.Status.Time))
		again, err := json.Marshal(d.Status)
		require.NoError(t, err)
		same, err := json.Marshal(want)
		require.NoError(t, err)
		require.JSONEq(t, string(same), string(again))
		require.Equal(t, 1, d.Schema)
		require.Equal(t, "ok", d.Health)
		require.Equal(t, "1f", d.Local.Member)
		require.Equal(t, "two", d.Peers[0].Name)
		require.Equal(t, []string{}, d.Peers[0].Problems, "not null")
		require.Len(t, d.Peers, 2)
		require.Len(t, d.Peers[0].Lanes, 6)
		require.Nil(t, d.Peers[0].Sent, "there is one sample only")
	})
}

// TestRates: rates are averages of the last five seconds, or of the samples that there are.
func TestRates(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		all := cluster(t, 1, 2)
		h := statuspage.Handler(all[0], nil)
		decode(t, get(h, "/?format=json"))
		send := func(n int) {
			for range n {
				all[0].Send([]*raftpb.Message{{Type: raftpb.MsgProp.Enum(), To: new(uint64(2)), From: new(uint64(1))}})
			}
		}
		rate := func() float64 { return *decode(t, get(h, "/?format=json")).Peers[0].Lanes[0].Messages }
		send(100)
		time.Sleep(10 * time.Second)
		require.InDelta(t, 10, rate(), 0.001)
		for range 10 {
			send(200)
			time.Sleep(2 * time.Second)
			rate()
		}
		require.InDelta(t, 100, rate(), 0.001)
		time.Sleep(time.Millisecond)
		require.InDelta(t, 100, rate(), 0.1, "asking often changes nothing")
		time.Sleep(time.Hour)
		decode(t, get(h, "/?format=json"))
		require.Nil(t, decode(t, get(h, "/?format=json")).Peers[0].Sent, "what is long ago is forgotten")

		all[0].RemovePeer(2)
		all[0].AddPeer(2, []string{urlOf(2)})
		time.Sleep(2 * time.Second)
		require.Nil(t, decode(t, get(h, "/?format=json")).Peers[0].Lanes[0].Messages, "the counters began anew")
	})
}

// TestHistoryIsBounded: whoever asks a thousand times a second costs no memory.
func TestHistoryIsBounded(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		h := statuspage.Handler(cluster(t, 1, 2)[0], nil)
		points := func() int {
			page := get(h, "/?format=html").Body.String()
			line := regexp.MustCompile(`class="a" points="([^"]*)"`).FindStringSubmatch(page)
			if line == nil {
				return 0
			}
			return len(strings.Fields(line[1]))
		}
		most := 0
		for range 400 {
			most = max(most, points())
			time.Sleep(500 * time.Millisecond)
		}
		require.Greater(t, most, 60)
		require.LessOrEqual(t, most, 90)
	})
}
