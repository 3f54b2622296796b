// Package client talks to the members of a cluster over their client API.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/api"
	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/storage"
)

const (
	retryPause     = 50 * time.Millisecond
	attemptTimeout = 10 * time.Second
	maxAnswer      = 64 << 20
)

// Client sends each request to one member, and goes on to the next one if that
// does not answer, or cannot help at the moment, until its context ends. Writes
// are repeated too: setting or deleting a key twice does no harm, as long as
// nobody else writes to it meanwhile. All methods may be called concurrently.
type Client struct {
	endpoints []string
	next      atomic.Uint64
	http      *http.Client
}

// New returns a client for the members with these client URLs. It starts with
// the first one, and stays with a member for as long as that answers.
func New(endpoints ...string) (*Client, error) {
	if len(endpoints) == 0 {
		return nil, errors.New("no endpoint")
	}
	c := &Client{http: &http.Client{Timeout: attemptTimeout, Transport: &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 2 * time.Second}).DialContext,
		MaxIdleConnsPerHost: 1024,
	}}}
	for _, e := range endpoints {
		u, err := url.Parse(e)
		if err != nil || u.Scheme != "http" || u.Host == "" {
			return nil, fmt.Errorf("endpoint %q is not a URL like http://host:port", e)
		}
		c.endpoints = append(c.endpoints, strings.TrimSuffix(e, "/"))
	}
	return c, nil
}

// StartingAt returns a client for the same members, on the same connections,
// that starts with the i-th one.
func (c *Client) StartingAt(i int) *Client {
	d := &Client{endpoints: c.endpoints, http: c.http}
	d.next.Store(uint64(i))
	return d
}

// Close closes idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Put sets the value of a key.
func (c *Client) Put(ctx context.Context, key string, value []byte) (api.Written, error) {
	var w api.Written
	return w, c.doJSON(ctx, http.MethodPut, keyPath(key), value, &w)
}

// Get returns the value of a key as of now, wherever it was written; or with
// stale, at once, as the member knows it. errors.Is(err, api.ErrKeyNotFound)
// says that there is none.
func (c *Client) Get(ctx context.Context, key string, stale bool) ([]byte, error) {
	path := keyPath(key)
	if stale {
		path += "?stale=true"
	}
	return c.do(ctx, http.MethodGet, path, nil)
}

// Delete removes a key, if it is there.
func (c *Client) Delete(ctx context.Context, key string) (api.Written, error) {
	var w api.Written
	return w, c.doJSON(ctx, http.MethodDelete, keyPath(key), nil, &w)
}

// Members returns who belongs to the cluster.
func (c *Client) Members(ctx context.Context) (api.Cluster, error) {
	var cl api.Cluster
	return cl, c.doJSON(ctx, http.MethodGet, "/members", nil, &cl)
}

// AddMember adds a member, as a learner.
func (c *Client) AddMember(ctx context.Context, m storage.Member) (api.Cluster, error) {
	var cl api.Cluster
	body, err := json.Marshal(m)
	if err != nil {
		return cl, err
	}
	return cl, c.doJSON(ctx, http.MethodPost, "/members", body, &cl)
}

// RemoveMember removes a member for good.
func (c *Client) RemoveMember(ctx context.Context, id uint64) (api.Cluster, error) {
	var cl api.Cluster
	return cl, c.doJSON(ctx, http.MethodDelete, "/members/"+strconv.FormatUint(id, 10), nil, &cl)
}

// Status returns how a member sees itself.
func (c *Client) Status(ctx context.Context) (api.Status, error) {
	var s api.Status
	return s, c.doJSON(ctx, http.MethodGet, "/status", nil, &s)
}

// Digest returns the hash of a member's data.
func (c *Client) Digest(ctx context.Context) (storage.Digest, error) {
	var d storage.Digest
	return d, c.doJSON(ctx, http.MethodGet, "/hash", nil, &d)
}

// Compact makes a member drop the part of its log that it does not need.
func (c *Client) Compact(ctx context.Context) (api.LogStatus, error) {
	var l api.LogStatus
	return l, c.doJSON(ctx, http.MethodPost, "/compact", nil, &l)
}

func keyPath(key string) string {
	// "." and ".." would be taken for path elements.
	return "/kv/" + strings.ReplaceAll(url.PathEscape(key), ".", "%2E")
}

func (c *Client) doJSON(ctx context.Context, method, path string, body []byte, into any) error {
	answer, err := c.do(ctx, method, path, body)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(answer, into); err != nil {
		return fmt.Errorf("%s %s: answer: %w", method, path, err)
	}
	return nil
}

// do tries one member after the other.
func (c *Client) do(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	for tries := 1; ; tries++ {
		i := c.next.Load()
		answer, err := c.once(ctx, c.endpoints[i%uint64(len(c.endpoints))], method, path, body)
		var apiErr *api.Error
		if err == nil || ctx.Err() != nil || errors.As(err, &apiErr) && !apiErr.Retry() {
			return answer, err
		}
		c.next.CompareAndSwap(i, i+1)
		if tries%len(c.endpoints) != 0 {
			continue
		}
		select {
		case <-time.After(retryPause):
		case <-ctx.Done():
			return nil, err
		}
	}
}

func (c *Client) once(ctx context.Context, endpoint, method, path string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, endpoint+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode < http.StatusBadRequest {
		return answer, nil
	}
	apiErr := &api.Error{Status: resp.StatusCode}
	if json.Unmarshal(answer, apiErr) != nil || apiErr.Text == "" {
		apiErr.Text = fmt.Sprintf("%s%s answered %s", endpoint, path, resp.Status)
	}
	return nil, apiErr
}
