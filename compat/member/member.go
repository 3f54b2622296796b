// Package member runs transports of every make behind one interface: ours, etcd v3.7.3's in this process, and etcd
// v3.6.16's in a helper process. What a test says of one make it can say of any other, and of any two together.
//
// A Member is one transport with a listener and an HTTP server around it. Upstream's are used as they are, through
// their exported names and over the wire.
package member

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/compat/v36/drive"
)

// Kind is a make of transport.
type Kind string

const (
	Ours    Kind = "ours"
	Stock37 Kind = "etcd37"
	Stock36 Kind = "etcd36"
)

// Config says what to start.
type Config struct {
	ID      uint64
	Cluster uint64
	Dir     string     // databases of snapshots are saved here; it belongs to the caller
	Listen  string     // host:port; empty: a free port of loopback
	TLS     *drive.TLS // nil: plain
	Raft    rafthttp.Raft

	Failed func(error)               // gets what comes out of ErrorC; nil: dropped
	Logger *zap.Logger               // of the transports in this process; nil: none
	Tune   func(*rafthttp.Transport) // changes fields before Start; nil: none changed; used by Ours alone
}

// Member is a running transport. Its methods may be used concurrently. Those of a member in a helper process panic if
// the helper breaks.
type Member interface {
	ID() uint64
	URL() string // of its listener

	AddPeer(id uint64, urls ...string)
	AddRemote(id uint64, urls ...string)
	UpdatePeer(id uint64, urls ...string)
	RemovePeer(id uint64)
	Cut(id uint64)
	Mend(id uint64)
	Pause()
	Resume()

	Send(msgs ...*raftpb.Message)
	// SendSnapshot sends m with the bytes of db behind it; the channel gets what CloseNotify got.
	SendSnapshot(m *raftpb.Message, db Source) <-chan bool

	// SetAnswer says what Process returns from now on; an answer other than Accept is given without asking Config.Raft.
	SetAnswer(a drive.Answer)
	// MarkRemoved makes IsIDRemoved true for id, without asking Config.Raft.
	MarkRemoved(id uint64)

	Look(peer uint64) Look

	// Stop stops the transport, then the server. No event comes afterwards.
	Stop()
}

// Look is what a member says of itself, at one time.
type Look struct {
	ActiveSince time.Time // of the peer that was asked for
	ActivePeers int
	Requests    map[string]int // received so far, see drive.Requests
	Logged      []string       // by a member in a helper process since the last look; the others have Config.Logger
}

// Start runs a member.
func Start(kind Kind, cfg Config) (Member, error) {
	switch kind {
	case Ours:
		return startOurs(cfg)
	case Stock37:
		return startStock37(cfg)
	case Stock36:
		return startHelper(cfg)
	default:
		return nil, fmt.Errorf("no kind %q", kind)
	}
}

// Source is where the database of a snapshot comes from: a file, or generated where File is empty.
type Source struct {
	File      string
	Generated drive.Database
}

func (s Source) open() (io.ReadCloser, int64, error) {
	if s.File == "" {
		return io.NopCloser(s.Generated.Reader()), s.Generated.Size, nil
	}
	f, err := os.Open(s.File)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, info.Size(), nil
}

// DatabasePath is where a member with Config.Dir dir saves the database of the snapshot at index.
func DatabasePath(dir string, index uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%016x.snap.db", index))
}

func tlsInfo(files *drive.TLS) transport.TLSInfo {
	if files == nil {
		return transport.TLSInfo{}
	}
	return transport.TLSInfo{CertFile: files.Cert, KeyFile: files.Key, TrustedCAFile: files.CA, ClientCertAuth: true}
}
