package snapshot

import (
	"errors"
	"fmt"
)

// Causes of failed transfers. Package rafthttp exports them under its own names, with their full descriptions.
var (
	ErrSize    = errors.New("rafthttp: snapshot reader does not match its declared size")
	ErrShort   = fmt.Errorf("%w: too short", ErrSize)
	ErrLong    = fmt.Errorf("%w: too long", ErrSize)
	ErrReader  = errors.New("rafthttp: reader of the snapshot failed")
	ErrChanged = fmt.Errorf("%w: the file changed while it was sent", ErrReader)
)

// isReaderFailure reports whether only the reader caused the failure of a transfer.
func isReaderFailure(err error) bool { return errors.Is(err, ErrReader) || errors.Is(err, ErrSize) }
