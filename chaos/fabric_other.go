//go:build unix && !linux

package main

import (
	"context"
	"errors"
	"syscall"
)

const cannot = 77

var errLinuxOnly = errors.New("network namespaces are Linux's")

func newSwitched(uint64) (fabric, error) { return nil, errLinuxOnly }
func inside() string                     { return "" }

func enter(context.Context, string, uint64) (code int, ok bool, err error) {
	return 0, false, errLinuxOnly
}

func procAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
