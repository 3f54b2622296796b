//go:build race

package server

import "runtime"

// RaceEnabled says whether the race detector is there.
const RaceEnabled = true

// With several processors, a bubble of testing/synctest may crash the race
// detector of Go 1.26: golang.org/issue/78156.
func init() { runtime.GOMAXPROCS(1) }
