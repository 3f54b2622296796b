package protocol

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// probeAnswer is the body of the answer to a probe (PROTOCOL.md, section 1).
type probeAnswer struct {
	OK  bool
	Now time.Time
}

// WriteProbeAnswer answers a probe: the member is healthy, and this is its time.
func WriteProbeAnswer(w http.ResponseWriter, now time.Time) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(probeAnswer{OK: true, Now: now})
}

// ReadProbeAnswer returns the time of the member that answered a probe with this body.
func ReadProbeAnswer(body io.Reader) (now time.Time, err error) {
	var answer probeAnswer
	if err := json.NewDecoder(io.LimitReader(body, MaxAnswerBytes)).Decode(&answer); err != nil {
		return now, fmt.Errorf("probing answer: %w", err)
	}
	if !answer.OK || answer.Now.IsZero() {
		return now, errors.New("probing answer: the peer is not well")
	}
	return answer.Now, nil
}
