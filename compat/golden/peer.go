package golden

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"

	"go.etcd.io/etcd/client/pkg/v3/types"
)

// peer is the member that upstream's transport talks to: plain HTTP, and no transport of its own.
type peer struct {
	*httptest.Server
	posts chan post // what was posted to it, in order
}

type post struct {
	path   string
	header http.Header
	body   []byte
}

func newPeer() *peer {
	p := &peer{posts: make(chan post, 1)}
	p.Server = httptest.NewServer(p)
	return p
}

// ServeHTTP takes every post, and refuses streams as a member does that does not know who asks.
func (p *peer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("X-Etcd-Cluster-ID", types.ID(Cluster).String())
		http.NotFound(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	select {
	case p.posts <- post{r.URL.Path, r.Header, body}:
		w.WriteHeader(http.StatusNoContent)
	case <-r.Context().Done():
	}
}

// next waits for a post.
func (p *peer) next(ctx context.Context) (post, error) {
	select {
	case got := <-p.posts:
		return got, nil
	case <-ctx.Done():
		return post{}, fmt.Errorf("wait for a post: %w", ctx.Err())
	}
}

// dial asks the member at url for a stream ("message" or "msgapp").
func dial(ctx context.Context, url, stream string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/raft/stream/"+stream+"/"+types.ID(To).String(), nil)
	if err != nil {
		return nil, err
	}
	for name, value := range map[string]string{
		"X-Server-From": types.ID(To).String(), "X-Server-Version": "3.7.0", "X-Min-Cluster-Version": "3.0.0",
		"X-Etcd-Cluster-ID": types.ID(Cluster).String(), "X-Raft-To": types.ID(From).String(),
	} {
		r.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, fmt.Errorf("%s stream: %s", stream, resp.Status)
	}
	return resp, nil
}

// identity returns those of a request's or an answer's headers that say who it is from.
func identity(h http.Header) map[string]string {
	kept := make(map[string]string)
	for _, name := range []string{"Content-Type", "X-Server-From", "X-Server-Version", "X-Min-Cluster-Version", "X-Etcd-Cluster-Id"} {
		if v := h.Get(name); v != "" {
			kept[name] = v
		}
	}
	return kept
}
