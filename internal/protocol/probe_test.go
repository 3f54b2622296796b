package protocol

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestProbeAnswerBothWays: the time in an answer is read as it was written, and an answer that says nothing is an error.
func TestProbeAnswerBothWays(t *testing.T) {
	w, now := httptest.NewRecorder(), time.Now()
	WriteProbeAnswer(w, now)
	require.Equal(t, "application/json", w.Header().Get("Content-Type"))
	got, err := ReadProbeAnswer(w.Body)
	require.NoError(t, err)
	require.True(t, now.Equal(got))
	for _, body := range []string{"", "{}", `{"OK":false,"Now":"2026-01-01T00:00:00Z"}`, `{"OK":true}`, strings.Repeat(" ", MaxAnswerBytes) + "{}"} {
		_, err := ReadProbeAnswer(strings.NewReader(body))
		require.ErrorContains(t, err, "probing answer: ")
	}
}
