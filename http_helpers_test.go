package rafthttp_test

import "net/http"

// teapot is an error of Process that answers by itself.
type teapot struct{}

func (teapot) Error() string { return "teapot" }

// WriteTo has no result, as the transport wants it.
func (teapot) WriteTo(w http.ResponseWriter) { w.WriteHeader(http.StatusTeapot) }
