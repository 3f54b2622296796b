package groups_test

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain fails the tests if a goroutine of any transport outlives them.
// A server that closes a connection before the end of a request lingers for half
// a second.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}
