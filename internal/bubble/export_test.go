package bubble

import (
	"testing"
	"time"
)

// Within is Test with another limit and another end.
func Within(t *testing.T, limit time.Duration, fail func(report string), f func(*testing.T)) {
	t.Helper()
	test(t, limit, fail, f)
}

// End is what Test does with a bubble that stands still.
func End(report string) { end(report) }
