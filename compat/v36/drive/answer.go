package drive

import (
	"errors"
	"net/http"
)

// Answer says what a member's Process returns.
type Answer string

const (
	Accept  Answer = ""        // nil
	Refuse  Answer = "refuse"  // a plain error
	Removed Answer = "removed" // an error with WriteTo(http.ResponseWriter), that answers 403
	Etcd403 Answer = "etcd403" // etcd's own kind: WriteTo has a result, so the transport does not take it for a Removed
)

// Err returns the error that a means.
func (a Answer) Err() error {
	switch a {
	case Refuse:
		return errors.New("refused by the test")
	case Removed:
		return &writer{status: http.StatusForbidden}
	case Etcd403:
		return &writerWithResult{status: http.StatusForbidden}
	default:
		return nil
	}
}

type writer struct{ status int }

func (w *writer) Error() string                  { return "written by the error itself" }
func (w *writer) WriteTo(rw http.ResponseWriter) { http.Error(rw, "Forbidden by the test", w.status) }

type writerWithResult struct{ status int }

func (w *writerWithResult) Error() string { return "would write, but returns an error" }

func (w *writerWithResult) WriteTo(rw http.ResponseWriter) error {
	http.Error(rw, "Forbidden by the test", w.status)
	return nil
}
