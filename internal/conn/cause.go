package conn

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/seed-4d73690b/rafthttp/internal/errs"
)

// CauseOf returns the cause of the end of ctx in place of the error that resulted from it.
func CauseOf(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if errors.Is(err, io.EOF) {
		return errs.ErrPeerGone
	}
	if IsTimeout(err) && !errors.Is(err, ErrDialTimeout) {
		return fmt.Errorf("%w: %w", errs.ErrStalled, err)
	}
	return err
}
