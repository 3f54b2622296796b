//go:build !linux

package rafthttp

import "net"

func limitUnsent(net.Conn) {}
