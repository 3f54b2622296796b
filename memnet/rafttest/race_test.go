//go:build race

package rafttest_test

import "runtime"

// The examples use testing/synctest as a user would; see package bubble for why
// they have one processor with the race detector.
func init() { runtime.GOMAXPROCS(1) }
