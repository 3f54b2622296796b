package rafthttp_test

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain fails the tests if a goroutine of any transport outlives them.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
