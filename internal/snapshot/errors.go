package snapshot

import (
	"errors"
	"fmt"
)

// Why a transfer fails. Package rafthttp has these under the names that its users know, and says more of each.
var (
	ErrSize    = errors.New("rafthttp: snapshot reader does not match its declared size")
	ErrShort   = fmt.Errorf("%w: too short", ErrSize)
	ErrLong    = fmt.Errorf("%w: too long", ErrSize)
	ErrReader  = errors.New("rafthttp: reader of the snapshot failed")
	ErrChanged = fmt.Errorf("%w: the file changed while it was sent", ErrReader)
)

// isReaderFailure reports whether a transfer failed by its reader alone.
func isReaderFailure(err error) bool { return errors.Is(err, ErrReader) || errors.Is(err, ErrSize) }
