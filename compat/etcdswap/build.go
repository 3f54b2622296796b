package main

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// kind is which transport an etcd server was built with.
type kind string

const (
	stock   kind = "stock"
	swapped kind = "swapped"
)

// programs are the paths of the servers, by kind.
type programs map[kind]string

const serverModule = "go.etcd.io/etcd/server/v3"

// build builds both servers into dir.
func build(ctx context.Context, dir string) (programs, error) {
	built := programs{stock: filepath.Join(dir, "etcd-stock"), swapped: filepath.Join(dir, "etcd-swapped")}
	if _, err := goTool(ctx, "build", "-o", built[stock], "./etcd"); err != nil {
		return nil, err
	}
	modfile, err := swap(ctx, dir)
	if err != nil {
		return nil, err
	}
	if _, err := goTool(ctx, "build", "-modfile", modfile, "-o", built[swapped], "./etcd"); err != nil {
		return nil, err
	}
	return built, built.check(ctx)
}

// swap copies etcd's server module into dir, with the shim in the place of its transport package, and returns the go.mod to
// build with it. (A build overlay would do, but the toolchain refuses one for files of the module cache.)
func swap(ctx context.Context, dir string) (modfile string, err error) {
	cached, err := goTool(ctx, "list", "-m", "-f", "{{.Dir}}", serverModule)
	if err != nil {
		return "", err
	}
	server := filepath.Join(dir, "server")
	if err := os.CopyFS(server, os.DirFS(cached)); err != nil {
		return "", err
	}
	if err := makeWritable(server); err != nil {
		return "", err
	}
	transport := filepath.Join(server, "etcdserver", "api", "rafthttp")
	if err := os.RemoveAll(transport); err != nil {
		return "", err
	}
	if err := os.CopyFS(transport, os.DirFS("shim/rafthttp")); err != nil {
		return "", err
	}
	modfile = filepath.Join(dir, "go.mod")
	for _, name := range []string{"go.mod", "go.sum"} {
		text, err := os.ReadFile(name)
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			return "", err
		}
	}
	_, err = goTool(ctx, "mod", "edit", "-replace", serverModule+"="+server, modfile)
	return modfile, err
}

// makeWritable lets the owner change a copy out of the module cache, which is read-only.
func makeWritable(dir string) error {
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chmod(path, 0o755)
	})
}

// check makes sure that the servers are what they are said to be: only one of them has our transport in it.
func (p programs) check(ctx context.Context) error {
	for kind, path := range p {
		symbols, err := goTool(ctx, "tool", "nm", path)
		if err != nil {
			return err
		}
		const ours = "github.com/seed-4d73690b/rafthttp.(*Transport)"
		if strings.Contains(symbols, ours) != (kind == swapped) {
			return fmt.Errorf("the %s server was built with the wrong transport", kind)
		}
	}
	return nil
}

// goTool runs the go command in the folder of this module and returns what it prints.
func goTool(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("go %s: %w\n%s", args[0], err, errs.String())
	}
	return strings.TrimSpace(out.String()), nil
}
