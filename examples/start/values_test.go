package main

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/memnet/rafttest"
)

func request(h http.Handler, method, key, value string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, "/kv/"+url.PathEscape(key), strings.NewReader(value)))
	return w
}

// What was written is what is read, also if it is no text, at once and after a restart; and no key is another one.
func TestValuesThatAreNoText(t *testing.T) {
	values := map[string]string{
		"picture": "\x89PNG\r\n\x1a\n\x00\xff\xfe", "empty": "", "line": "ends\n", "page": "<script>",
		"a\xff": "one", "a\xfe": "another", "a\uFFFD": "a third", "a/b": "with a slash", "€": "an euro",
	}
	dir := t.TempDir()
	for _, found := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			c := rafttest.New(t, rafttest.Config{Members: 1})
			log, err := openLog(dir, member1, found)
			require.NoError(t, err)
			t.Cleanup(func() { _ = log.file.Close() })
			m, err := startMember([]uint64{1}, log, quiet())
			require.NoError(t, err)
			transport := c.Start(1, m).Transport
			go func() { _ = m.run(t.Context(), transport) }()
			h := m.handler(transport, prometheus.NewRegistry())
			time.Sleep(time.Minute) // it leads, and has applied its log
			for key, value := range values {
				if found {
					w := request(h, http.MethodPut, key, value)
					require.Equal(t, http.StatusOK, w.Code, w.Body)
				}
			}
			for key, value := range values {
				w := request(h, http.MethodGet, key, "")
				require.Equal(t, http.StatusOK, w.Code, "%q", key)
				require.Equal(t, value, w.Body.String(), "%q", key)
				require.Equal(t, "application/octet-stream", w.Header().Get("Content-Type"))
			}
		})
	}
}
