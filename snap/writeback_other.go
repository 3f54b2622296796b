//go:build !linux || arm

package snap

import "os"

func startWriteback(*os.File, int64, int64) {}
