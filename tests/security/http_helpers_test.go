package security_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// serve runs a server for a handler and returns its URL.
func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}
