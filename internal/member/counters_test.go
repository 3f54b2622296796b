package member

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/internal/errs"
	"github.com/seed-4d73690b/rafthttp/internal/protocol"
	"github.com/seed-4d73690b/rafthttp/internal/queue"
	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

// TestReasonOf: each cause of a drop has its reason, however it is wrapped, and the more special one where two fit.
func TestReasonOf(t *testing.T) {
	for _, c := range []struct {
		cause error
		want  queue.DropReason
	}{
		{errs.ErrQueueFull, queue.DropQueueFull},
		{errs.ErrProcessStalled, queue.DropQueueFull},
		{errs.ErrMemoryLimit, queue.DropMemoryLimit}, // which is an ErrQueueFull
		{wire.ErrExceedSizeLimit, queue.DropTooLarge},
		{errs.ErrLocalMessage, queue.DropLocal},
		{errs.ErrPaused, queue.DropPaused},
		{errs.ErrPeerRemoved, queue.DropEnded},
		{errs.ErrStopped, queue.DropEnded},
		{protocol.ErrMemberRemoved, queue.DropRefused},
		{protocol.ErrMemberUnknown, queue.DropRefused},
		{protocol.ErrClusterIDMismatch, queue.DropRefused},
		{protocol.ErrIncompatibleVersion, queue.DropRefused},
		{protocol.ErrToMismatch, queue.DropRefused},
		{protocol.ErrIdentity, queue.DropRefused},
		{errs.ErrOfRemoved, queue.DropRefused},
		{errs.ErrUnexpectedAnswer, queue.DropRefused},
		{errs.ErrStalled, queue.DropDisconnected},
		{errs.ErrPeerGone, queue.DropDisconnected},
		{io.ErrUnexpectedEOF, queue.DropDisconnected},
		{nil, queue.DropDisconnected},
	} {
		require.Equal(t, c.want, ReasonOf(c.cause), "%v", c.cause)
		if c.cause != nil {
			require.Equal(t, c.want, ReasonOf(fmt.Errorf("stream of 2: %w", c.cause)), "%v", c.cause)
			require.Equal(t, c.want, ReasonOf(errors.Join(errors.New("other"), c.cause)), "%v", c.cause)
		}
	}
}
