package member

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
)

// BuildHelper builds the program that is a member of etcd 3.6 and returns its path. The first call builds, which takes
// the time of a compiler run; RemoveHelper deletes it.
var BuildHelper = sync.OnceValues(func() (string, error) {
	module, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/seed-4d73690b/rafthttp/compat/v36").Output()
	if err != nil {
		return "", fmt.Errorf("find the helper's module: %w", err)
	}
	dir, err := os.MkdirTemp("", "rafthttp-v36-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "v36")
	build := exec.Command("go", "build", "-o", path, ".")
	build.Dir = string(module[:len(module)-1])
	build.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the helper: %w\n%s", err, out)
	}
	helperDir = dir
	return path, nil
})

var helperDir string // set once, by BuildHelper

// RemoveHelper deletes what BuildHelper built. Call it last, from TestMain.
func RemoveHelper() {
	if helperDir != "" {
		os.RemoveAll(helperDir)
	}
}
