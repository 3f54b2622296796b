package security_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
)

// TestLongPathInLog: what a stranger sends does not decide how long a line is.
func TestLongPathInLog(t *testing.T) {
	core, lines := observer.New(zap.WarnLevel)
	m := testmember.Start(t, 1, func(tr *rafthttp.Transport) { tr.Logger = zap.New(core) })
	path := rafthttp.RaftStreamPrefix + "/" + strings.Repeat("x", 60<<10) + "/2"
	require.Equal(t, http.StatusNotFound, testmember.Exchange(t, m.URL, http.MethodGet, path, testmember.PeerHeader(nil), nil).StatusCode)
	testmember.Eventually(t, func() bool { return lines.Len() == 1 })
	require.Len(t, lines.All()[0].ContextMap()["path"], 256)
}
