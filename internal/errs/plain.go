package errs

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxPlain is the most bytes of a text of another member, or of an unauthenticated server, in an error.
const MaxPlain = 512

// Plain returns text of others as one line of at most limit bytes of printable characters: it goes into logs, terminals and
// lines of text.
func Plain(text string, limit int) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case r == utf8.RuneError, unicode.IsPrint(r):
			return r
		case unicode.IsSpace(r):
			return ' '
		default:
			return '?'
		}
	}, strings.ToValidUTF8(text, "?"))
	if len(text) <= limit {
		return text
	}
	cut := max(limit-len("…"), 0)
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + "…"
}

// plainError is an error with a Plain text.
type plainError struct {
	text string
	err  error
}

// PlainError returns err with a Plain text of at most MaxPlain bytes. It wraps err.
func PlainError(err error) error {
	if text := Plain(err.Error(), MaxPlain); text != err.Error() {
		return &plainError{text, err}
	}
	return err
}

// Error implements error.
func (e *plainError) Error() string { return e.text }

// Unwrap returns the error with its own text.
func (e *plainError) Unwrap() error { return e.err }
