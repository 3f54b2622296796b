package rafthttp

import (
	"errors"
	"net/http"

	"github.com/seed-4d73690b/rafthttp/internal/protocol"
)

// conclude returns what an answer of the endpoint means, nil for success, and
// tells the application if the local member was removed from the
// cluster. It reads the body to a bound and leaves it to the caller to close it.
func (s *settings) conclude(resp *http.Response, at protocol.Endpoint) error {
	err := s.self.AnswerError(resp, at)
	if errors.Is(err, ErrMemberRemoved) && s.errorC != nil {
		select {
		case s.errorC <- ErrMemberRemoved:
		default:
		}
	}
	if u := (*protocol.UnexpectedAnswer)(nil); errors.As(err, &u) {
		return &StatusError{Code: u.Code, Body: u.Body, cause: u.Cause}
	}
	return err
}
