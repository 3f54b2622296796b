package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/api"
	"github.com/seed-4d73690b/rafthttp/examples/kv/internal/server"
)

func TestAPIErrors(t *testing.T) {
	c := newCluster(t, 1)
	for _, tc := range []struct {
		name, method, path, body string
		want                     *api.Error
	}{
		{"no such key", "GET", "/kv/none", "", api.ErrKeyNotFound},
		{"no key", "GET", "/kv/", "", api.ErrNoRoute},
		{"long key", "PUT", "/kv/" + strings.Repeat("k", api.MaxKeyBytes+1), "v", api.ErrBadRequest},
		{"large value", "PUT", "/kv/k", strings.Repeat("v", api.MaxValueBytes+1), api.ErrTooLarge},
		{"parameter", "GET", "/kv/k?stale=perhaps", "", api.ErrBadRequest},
		{"method", "PATCH", "/kv/k", "", api.ErrNoRoute},
		{"path", "GET", "/other", "", api.ErrNoRoute},
		{"not JSON", "POST", "/members", "x", api.ErrBadRequest},
		{"unknown field", "POST", "/members", `{"id":2,"peerURL":"http://h:1"}`, api.ErrBadRequest},
		{"not an id", "DELETE", "/members/x", "", api.ErrBadRequest},
	} {
		t.Run(tc.name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), tc.method, c.configs[1].ClientURL+tc.path, strings.NewReader(tc.body))
			require.NoError(t, err)
			resp, err := http.DefaultClient.Do(req)
			require.NoError(t, err)
			defer resp.Body.Close()
			require.Equal(t, tc.want.Status, resp.StatusCode)
			require.Equal(t, "application/json", resp.Header.Get("Content-Type"))
			var got api.Error
			require.NoError(t, json.NewDecoder(resp.Body).Decode(&got))
			require.Equal(t, tc.want.Code, got.Code)
			require.Contains(t, got.Text, tc.want.Text)
		})
	}
}

func TestLargestKeyAndValue(t *testing.T) {
	c := newCluster(t, 1)
	key, value := strings.Repeat("k", api.MaxKeyBytes), strings.Repeat("v", api.MaxValueBytes)
	put(t, c.client(), key, value)
	requireValue(t, c.client(), key, value)
	put(t, c.client(), "empty", "")
	requireValue(t, c.client(), "empty", "")
}

func TestStatusAndCompact(t *testing.T) {
	c := newCluster(t, 1, func(cfg *server.Config) { cfg.KeepEntries = 5 })
	cl := c.client()
	for range 50 {
		put(t, cl, "k", "v")
	}
	before, err := cl.Status(t.Context())
	require.NoError(t, err)
	require.Equal(t, "leader", before.Role)
	require.Equal(t, uint64(1), before.Leader)
	require.Equal(t, uint64(1), before.Log.First)
	require.GreaterOrEqual(t, before.Applied, uint64(50))
	require.Equal(t, before.Applied, before.Commit)
	require.Positive(t, before.DBSize)

	log, err := cl.Compact(t.Context())
	require.NoError(t, err)
	require.Equal(t, log.Last-5+1, log.First)
	c.kill(1)
	c.start(1)
	requireValue(t, cl, "k", "v")
}

// Whichever bound of the log is reached first holds: few entries are compacted if they are large.
func TestLogOfLargeEntries(t *testing.T) {
	const value, entries = 10 << 10, 100
	c := newCluster(t, 1, func(cfg *server.Config) { cfg.CompactBytes, cfg.KeepBytes = 20*value, 10*value })
	cl := c.client()
	for i := range entries {
		put(t, cl, fmt.Sprint(i), strings.Repeat("v", value))
		log := c.running[1].Status().Log
		require.Less(t, log.Bytes, int64(32*value))
		require.LessOrEqual(t, log.Last-log.First+1, uint64(32+8)) // the first entries are of the founding
	}
	require.Greater(t, c.running[1].Status().Log.First, uint64(entries/2))
	log, err := cl.Compact(t.Context())
	require.NoError(t, err)
	require.LessOrEqual(t, log.Bytes, int64(10*value))
}

// Reads that come in together share rounds of heartbeats, and all see what was
// written before.
func TestConcurrentReads(t *testing.T) {
	c := newCluster(t, 3)
	put(t, c.client(), "k", "v")
	follower := c.client(c.follower())
	var readers sync.WaitGroup
	for range 64 {
		readers.Go(func() {
			for range 5 {
				v, err := follower.Get(t.Context(), "k", false)
				if err != nil || string(v) != "v" {
					t.Errorf("read %q, %v", v, err)
				}
			}
		})
	}
	readers.Wait()
}

func TestDecodeCommand(t *testing.T) {
	whole := server.EncodePut(7, "key", "value")
	again, err := server.DecodeCommand(whole)
	require.NoError(t, err)
	require.Equal(t, whole, again)
	head := len(whole) - len("value")
	for n := range whole {
		_, err := server.DecodeCommand(whole[:n])
		require.Equal(t, n < head, err != nil, "cut to %d bytes", n)
	}
	long := append([]byte{1, 0, 0, 0, 0, 0, 0, 0, 7}, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01)
	_, err = server.DecodeCommand(long)
	require.Error(t, err)
}

// conditionalPut writes a value under a condition, and returns the status and the ETag that the answer names.
func conditionalPut(t *testing.T, url, header, condition, value string) (status int, etag string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, url, strings.NewReader(value))
	require.NoError(t, err)
	req.Header.Set(header, condition)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	var refused api.Error
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&refused))
	return resp.StatusCode, refused.ETag
}

func TestConditionalPut(t *testing.T) {
	c := newCluster(t, 1)
	url := c.configs[1].ClientURL + "/kv/k"
	a, b := api.ETag([]byte("a")), api.ETag([]byte("b"))
	for _, step := range []struct {
		name, header, condition, value string
		status                         int
		etag, then                     string
	}{
		{"no value to match", "If-Match", a, "b", http.StatusPreconditionFailed, "", ""},
		{"the first value", "If-None-Match", "*", "a", http.StatusOK, "", "a"},
		{"not the first any more", "If-None-Match", "*", "c", http.StatusPreconditionFailed, a, "a"},
		{"swapped", "If-Match", a, "b", http.StatusOK, "", "b"},
		{"swapped before", "If-Match", a, "c", http.StatusPreconditionFailed, b, "b"},
		{"to nothing", "If-Match", b, "", http.StatusOK, "", ""},
		{"an empty value is a value", "If-None-Match", "*", "c", http.StatusPreconditionFailed, api.ETag(nil), ""},
		{"not an ETag", "If-Match", "b", "c", http.StatusBadRequest, "", ""},
		{"a condition that is not known", "If-None-Match", a, "c", http.StatusBadRequest, "", ""},
	} {
		t.Run(step.name, func(t *testing.T) {
			status, etag := conditionalPut(t, url, step.header, step.condition, step.value)
			require.Equal(t, step.status, status)
			require.Equal(t, step.etag, etag)
			if step.then != "" {
				requireValue(t, c.client(), "k", step.then)
			}
		})
	}
	resp, err := http.Get(url)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, api.ETag(nil), resp.Header.Get("ETag"))
}
