//go:build race

package docs_test

import "runtime"

// With several processors, a bubble of testing/synctest may crash the race
// detector of Go 1.26: golang.org/issue/78156.
func init() { runtime.GOMAXPROCS(1) }
