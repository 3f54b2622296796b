package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/seed-4d73690b/rafthttp/compat/v36/drive"
)

// server is one etcd process, and what it needs to be started again.
type server struct {
	name      string
	kind      kind
	program   string
	dir       string
	peerURL   string
	clientURL string
	tls       *drive.TLS // between members; nil: plain
	fast      bool       // keeps etcd's defaults for snapshots

	cmd    *exec.Cmd
	exited chan error // gets what the process ended with
}

// newServer reserves addresses and a folder; nothing runs yet.
func newServer(p programs, k kind, name, dir string, tls *drive.TLS) (*server, error) {
	s := &server{name: name, kind: k, program: p[k], dir: filepath.Join(dir, name), tls: tls}
	scheme := "http"
	if tls != nil {
		scheme = "https"
	}
	peer, err := freeAddress()
	if err != nil {
		return nil, err
	}
	client, err := freeAddress()
	if err != nil {
		return nil, err
	}
	s.peerURL, s.clientURL = scheme+"://"+peer, "http://"+client
	return s, os.MkdirAll(s.dir, 0o700)
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// configure writes the configuration file. state is "new" or "existing"; members are all servers of the cluster.
func (s *server) configure(state string, members []*server) error {
	var cluster []string
	for _, m := range members {
		cluster = append(cluster, m.name+"="+m.peerURL)
	}
	config := map[string]any{
		"name": s.name, "data-dir": filepath.Join(s.dir, "data"), "log-outputs": []string{s.logFile()},
		"listen-peer-urls": s.peerURL, "initial-advertise-peer-urls": s.peerURL,
		"listen-client-urls": s.clientURL, "advertise-client-urls": s.clientURL,
		"initial-cluster": strings.Join(cluster, ","), "initial-cluster-state": state, "initial-cluster-token": "etcdswap",
		"heartbeat-interval": 50, "election-timeout": 500,
		"unsafe-no-fsync": true, // writes survive the death of a process without it
	}
	if !s.fast { // so few entries are kept that a member that joins needs a snapshot
		config["snapshot-count"], config["snapshot-catchup-entries"] = 500, 100
	}
	if s.tls != nil {
		config["peer-transport-security"] = map[string]any{
			"cert-file": s.tls.Cert, "key-file": s.tls.Key, "trusted-ca-file": s.tls.CA, "client-cert-auth": true,
		}
	}
	text, err := json.Marshal(config)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(s.dir, "etcd.json"), text, 0o600)
}

func (s *server) logFile() string { return filepath.Join(s.dir, "log") }

// start starts the process; it does not wait until it serves.
func (s *server) start() error {
	s.cmd = exec.Command(s.program, filepath.Join(s.dir, "etcd.json"))
	errors, err := os.Create(filepath.Join(s.dir, "stderr"))
	if err != nil {
		return err
	}
	defer errors.Close()
	s.cmd.Stderr = errors
	if err := s.cmd.Start(); err != nil {
		return err
	}
	s.exited = make(chan error, 1)
	go func(cmd *exec.Cmd, exited chan<- error) { exited <- cmd.Wait() }(s.cmd, s.exited)
	return nil
}

// kill ends the process at once.
func (s *server) kill() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill() // fails where the process has ended by itself
	<-s.exited               //nolint:errcheck // whatever it ended with, it is gone
	s.cmd = nil
}

// awaitExit waits until the process has ended by itself, and without a fault.
func (s *server) awaitExit(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	select {
	case err := <-s.exited:
		s.cmd = nil
		if err != nil {
			return fmt.Errorf("%s ended with %w", s.name, err)
		}
		return nil
	case <-ctx.Done():
		return errors.New(s.name + " was removed and does not stop")
	}
}

// logged says whether the server has written a log line with the text.
func (s *server) logged(text string) (bool, error) {
	log, err := os.ReadFile(s.logFile())
	return strings.Contains(string(log), text), err
}
