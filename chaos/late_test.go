package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/chaos/internal/history"
)

// TestLateWrites has a member whose keys change after the last reads of an era, as they do when a request, which a broken
// link has held up, comes after its client has given up. Only a write without a known end may come so late.
func TestLateWrites(t *testing.T) {
	for _, c := range []struct{ key, found, wrong string }{
		{"0/1", "a", ""},
		{"0/1", "late", ""},
		{"0/1", "swapped", ""},
		{"0/1", "reverted", "an acknowledged write is lost"}, // an unknown swap of a value that the key has no more
		{"0/1", "refused", "an acknowledged write is lost"},
		{"0/1", "before", "an acknowledged write is lost"}, // an unknown write too, but it was seen
		{"0/2", "late", "an acknowledged write is lost"},   // of another key
		{"0/c1/1", "late", "an acknowledged write is lost"},
	} {
		t.Run(c.key+" "+c.found, func(t *testing.T) {
			found := map[string]string{"0/1": "a", "0/2": "b", "0/c1/1": "c"}
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
				_, _ = w.Write([]byte(value(found[strings.TrimPrefix(q.URL.Path, "/kv/")], 3)))
			}))
			t.Cleanup(server.Close)
			cl := &cluster{client: newClient(), broken: make(chan struct{})}
			for range size {
				cl.members = append(cl.members, &member{c: cl, client: server.URL})
			}
			trial := newTrial(cl, 1, nil, t.Output())
			op := func(kind history.Kind, key, value string, outcome history.Outcome) history.Op {
				o := history.Op{Client: 1, Kind: kind, Key: key, Value: value, Outcome: outcome}
				if kind == history.Read {
					o.Client, o.Value, o.Found = 0, "", value
				}
				return o
			}
			require.NoError(t, trial.keep(t.Context(), []history.Op{
				op(history.Write, "0/1", "before", history.Unknown), {Client: 2, Kind: history.Read, Key: "0/1", Found: "before", Outcome: history.Done},
				op(history.Write, "0/1", "a", history.Done), op(history.Write, "0/1", "late", history.Unknown),
				{Client: 1, Kind: history.Swap, Key: "0/1", Value: "swapped", Expect: "a", Outcome: history.Unknown},
				{Client: 1, Kind: history.Swap, Key: "0/1", Value: "reverted", Expect: "before", Outcome: history.Unknown},
				op(history.Write, "0/1", "refused", history.Refused), op(history.Read, "0/1", "a", history.Done),
				op(history.Write, "0/2", "b", history.Done), op(history.Read, "0/2", "b", history.Done),
				op(history.Write, "0/c1/1", "c", history.Done),
			}))
			found[c.key] = c.found
			var err error
			for key, name := range trial.expect {
				if err == nil {
					err = trial.has(t.Context(), cl.members[0], key, name)
				}
			}
			if c.wrong == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, c.wrong)
		})
	}
}
