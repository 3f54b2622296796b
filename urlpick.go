package rafthttp

import (
	"net/url"
	"slices"
	"sync"

	"go.etcd.io/etcd/client/pkg/v3/types"
)

// urlPicker remembers which URL of a peer to try next. It is safe for
// concurrent use.
type urlPicker struct {
	mu     sync.Mutex
	urls   types.URLs // guarded by mu; never empty, never modified
	picked int        // guarded by mu
}

func newURLPicker(urls types.URLs) *urlPicker {
	return &urlPicker{urls: urls}
}

// Pick returns the URL to use now: the same one until Unreachable is called
// for it.
func (p *urlPicker) Pick() url.URL {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.urls[p.picked]
}

// Unreachable reports that u failed. The picker moves on only if u is still the
// current one, so that several failing lanes move it by one.
func (p *urlPicker) Unreachable(u url.URL) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.urls[p.picked] == u {
		p.picked = (p.picked + 1) % len(p.urls)
	}
}

// Update replaces the URLs.
func (p *urlPicker) Update(urls types.URLs) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.urls, p.picked = urls, 0
}

// List returns the URLs as text.
func (p *urlPicker) List() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.urls.StringSlice()
}

// Same reports whether urls are the current ones.
func (p *urlPicker) Same(urls types.URLs) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Equal(p.urls, urls)
}
