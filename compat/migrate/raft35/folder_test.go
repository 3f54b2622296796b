package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestFolder: a folder belongs to one process and one member, and a member that finds none founds no cluster unasked: it may have
// lost it, and its votes.
func TestFolder(t *testing.T) {
	cfg := config{id: 1, members: map[uint64]string{1: "http://127.0.0.1:1"}, dir: filepath.Join(t.TempDir(), "data")}
	refused := func(cfg config, want string) {
		t.Helper()
		if _, err := open(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, have %v", want, err)
		}
	}
	refused(cfg, "no log")
	if _, err := os.Stat(cfg.dir); err == nil {
		t.Error("there is a folder")
	}
	again, other := cfg, cfg
	cfg.found, other.id = true, 2
	n, err := open(cfg)
	must(t, err)
	refused(again, "locked")
	n.transport.Stop()
	n.raft.Stop()
	must(t, n.wal.Close())
	refused(other, `the log of "member 1 of cluster 1000", not of member 2`)
	refused(cfg, "-new")
	cfg.found, cfg.join = false, true
	refused(cfg, "-join")
}

// TestAddRefusesNonsense: every member would panic at it when it applies it, now and at each start.
func TestAddRefusesNonsense(t *testing.T) {
	for _, words := range [][2]string{{"4", "127.0.0.1"}, {"4", "http://127.0.0.1"}, {"0", "http://127.0.0.1:1"}, {"x", "http://127.0.0.1:1"}} {
		if err := new(node).add(words[0], words[1]); err == nil {
			t.Error("not refused:", words)
		}
	}
}

// TestLinesThatAreNoText: a line is the same before and after a snapshot.
func TestLinesThatAreNoText(t *testing.T) {
	s := &store{dir: t.TempDir()}
	const line = "a\xff\x00€"
	must(t, s.save(0, &state{Lines: [][]byte{[]byte(line)}}))
	st, err := s.load(0)
	must(t, err)
	if string(st.Lines[0]) != line {
		t.Errorf("%q", st.Lines[0])
	}
}
