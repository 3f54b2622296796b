package member

import (
	"errors"
	"regexp"
	"strings"

	"github.com/seed-4d73690b/rafthttp/internal/errs"
	"github.com/seed-4d73690b/rafthttp/internal/protocol"
)

// variable is what differs in the texts of errors of one class: numbers, such as ports and times, and quoted data of the
// other end.
var variable = regexp.MustCompile(`\d+|"(?:[^"\\]|\\.)*"`)

// unexpected is what the texts of answers with one status have in common.
var unexpected = regexp.MustCompile(`unexpected http status \d+`)

// ClassOf returns the class of an error, for a log that has one line for each change of the class. It is for errors that come
// seldom: it takes microseconds. Bodies of answers, which may differ each time, do not count; statuses do.
func ClassOf(err error) string {
	text := err.Error()
	if errors.Is(err, errs.ErrUnexpectedAnswer) {
		return unexpected.FindString(text)
	}
	if before, _, found := strings.Cut(text, protocol.ErrMemberUnknown.Error()+": "); found && errors.Is(err, protocol.ErrMemberUnknown) {
		text = before + "a server that is no member"
	}
	return variable.ReplaceAllString(text, "")
}
