// Package statuspage shows the state of the peers of a rafthttp.Transport, as a
// page for people, as JSON for programs and as text for terminals.
//
//	mux.Handle("/debug/rafthttp", statuspage.Handler(t, nil))
//
// The page is one document without external parts. It works without JavaScript,
// and refreshes automatically with it. The handler only reads: it accepts GET and HEAD,
// changes nothing, and has no goroutine except for a call of Options.Facts.
//
// It shows addresses and the state of a cluster to every client that can reach it:
// mount it where only operators can, not on the peer URL.
package statuspage

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"html/template"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/seed-4d73690b/rafthttp"
)

// Options are the options of Handler. The zero value means the same as nil.
type Options struct {
	// Title is the heading of the page; empty means "rafthttp".
	Title string
	// Name returns the name of a member shown beside its id, such as its host; nil,
	// and empty results, mean the id alone. It is called for each member at each
	// request, which waits for it: it must not block. A panic means the id alone.
	Name func(id uint64) string
	// Facts returns facts about the application, such as the leader, the term or
	// the applied index, which are shown first and in this order; nil means none.
	//
	// A request calls it in a goroutine and waits for at most a second; then its
	// context ends. If it returns later, or panics, the response says so instead of
	// showing facts, and is complete otherwise; the panic is recovered. Facts is not
	// called again before it has returned, and concurrent requests share a call.
	// The handler copies the slice. The status of the transport is taken after the call.
	Facts func(ctx context.Context) []Fact
}

// Handler returns a handler that shows t, which may not be started yet. It serves
// any path that it is mounted on, in three formats: by the parameter format
// (html, json, text), or else by the Accept header; clients that do not accept
// a page, such as curl, get text. A fourth, health, is one line for each problem
// of Transport.Health, with status 503 if one is critical, and else 200.
//
// With raft groups, the parameter group=7 asks for group 7, and groups=100 for the worst 100, at most 1,000, instead of 20; JSON has
// no single group without these. To find the worst takes about a millisecond for 1,000 groups.
//
// A rate needs two samples that are at most 10 s apart. The handler takes a sample
// at each request, at most one per second, and keeps those of the last three
// minutes, about 200 bytes for each lane and sample. The first response has no
// rates, nor has one after a longer pause.
func Handler(t *rafthttp.Transport, o *Options) http.Handler {
	if o == nil {
		o = &Options{}
	}
	return &handler{t: t, title: cmp.Or(o.Title, "rafthttp"), namer: o.Name, facts: factsCaller{call: o.Facts}}
}

type handler struct {
	t       *rafthttp.Transport
	title   string
	namer   func(uint64) string
	facts   factsCaller
	history history
}

// name returns the name of a member.
func (h *handler) name(id uint64) (name string) {
	if h.namer == nil {
		return ""
	}
	defer func() { _ = recover() }() // see Options.Name
	return h.namer(id)
}

// ServeHTTP implements http.Handler.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cache-Control", "no-store")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Content-Security-Policy", contentSecurityPolicy)
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		header.Set("Allow", "GET, HEAD")
		http.Error(w, "this page can only be read", http.StatusMethodNotAllowed)
		return
	}
	header.Set("Vary", "Accept")
	format, ok := formatOf(r)
	if !ok {
		http.Error(w, "format: want html, json, text or health", http.StatusBadRequest)
		return
	}
	query, err := groupQueryOf(r.URL.Query(), format)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var facts *application
	if format != "health" { // which waits for nobody
		facts = h.facts.get()
	}
	st := h.t.Status()
	report := newReport(st, h.history.look(st), h.name)
	report.Application = facts
	report.addGroups(h.t, query)
	var body bytes.Buffer
	code := http.StatusOK
	switch format {
	case "html":
		header.Set("Content-Type", "text/html; charset=utf-8")
		err = page.Execute(&body, newPage(h.title, report))
	case "json":
		header.Set("Content-Type", "application/json")
		err = writeJSON(&body, report)
	case "health":
		header.Set("Content-Type", "text/plain; charset=utf-8")
		code = writeHealth(&body, st.Health(), h.name)
	case "text":
		header.Set("Content-Type", "text/plain; charset=utf-8")
		err = writeText(&body, report)
	}
	if err != nil {
		http.Error(w, "failed to show the status: "+err.Error(), http.StatusInternalServerError)
		return
	}
	header.Set("Content-Length", strconv.Itoa(body.Len()))
	w.WriteHeader(code)
	_, _ = body.WriteTo(w) // fails if the client has disconnected
}

// formatOf returns the format of a request.
func formatOf(r *http.Request) (format string, ok bool) {
	if q := r.URL.Query(); q.Has("format") {
		format = q.Get("format")
		return format, slices.Contains([]string{"html", "json", "text", "health"}, format)
	}
	for _, accepted := range strings.Split(strings.Join(r.Header.Values("Accept"), ","), ",") {
		media, _, _ := mime.ParseMediaType(accepted)
		switch media {
		case "text/html", "application/xhtml+xml":
			return "html", true
		case "application/json":
			return "json", true
		}
	}
	return "text", true
}

//go:embed page.html peer.html groups.html style.css app.js
var files embed.FS

func file(name string) string {
	b, err := files.ReadFile(name)
	if err != nil {
		panic(err) // it is part of the program
	}
	return string(b)
}

var (
	style, script = file("style.css"), file("app.js")

	page = template.Must(template.New("page.html").Funcs(template.FuncMap{
		"style":  func() template.CSS { return template.CSS(style) },
		"script": func() template.JS { return template.JS(script) },
	}).ParseFS(files, "*.html"))

	// contentSecurityPolicy allows exactly this page's style and script,
	// and that the script requests from this server; nothing else.
	contentSecurityPolicy = "default-src 'none'; style-src " + hashOf(style) + "; script-src " + hashOf(script) +
		"; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)

func hashOf(s string) string {
	sum := sha256.Sum256([]byte(s))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}
