package rafthttp

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"

	"go.etcd.io/etcd/client/pkg/v3/types"

	"github.com/seed-4d73690b/rafthttp/internal/protocol"
)

// conclude returns what an answer of the endpoint means, nil for success, and
// tells the application if it is that the local member was removed from the
// cluster. It reads the body to a bound and leaves it to the caller to close it.
func (s *settings) conclude(resp *http.Response, at protocol.Endpoint) error {
	err := s.meaningOf(resp, at)
	if errors.Is(err, ErrMemberRemoved) && s.errorC != nil {
		select {
		case s.errorC <- ErrMemberRemoved:
		default:
		}
	}
	return err
}

// meaningOf is conclude without consequences. No stream is read from a server that
// states no version, or one too old, and none is given up on its word.
func (s *settings) meaningOf(resp *http.Response, at protocol.Endpoint) error {
	err := answerError(resp, at, s.ofOurCluster(resp.Header))
	if errors.Is(err, ErrClusterIDMismatch) {
		err = fmt.Errorf("%w: ours is %s, the peer's is %s", err, s.clusterID, statedID(resp.Header, headerClusterID))
	}
	if at&protocol.EndpointStreams == 0 || (err != nil && !errors.Is(err, ErrMemberRemoved)) {
		return err
	}
	v, verr := headerVersionOf(resp.Header, headerVersion)
	if verr != nil {
		return verr
	}
	if v.Less(oldestStreamServer) {
		return fmt.Errorf("server version %d.%d: %w", v.Major, v.Minor, ErrIncompatibleVersion)
	}
	return err
}

// ofOurCluster reports whether an answer is one of our cluster: its members state
// its id with each, other web servers do not.
func (s *settings) ofOurCluster(h http.Header) bool {
	id, err := types.IDFromString(h.Get(headerClusterID))
	return err == nil && id == s.clusterID
}

// answerError returns what the status and the body of an answer say.
func answerError(resp *http.Response, at protocol.Endpoint, ofOurCluster bool) error {
	if resp.StatusCode == at.Success() {
		return nil
	}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes))
	text := string(bytes.TrimSpace(body))
	if err := protocol.Meaning(at, resp.StatusCode, text, ofOurCluster); err != nil {
		return err
	}
	return &StatusError{Code: resp.StatusCode, Body: protocol.FirstLine(text)}
}
