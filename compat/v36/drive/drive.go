// Package drive is the language between a test and a member of another etcd version that runs as a program of its own:
// one JSON Command a line on its standard input, one JSON Event a line on its standard output. A command that was
// carried out is answered by an event "done" with the command's number; everything else happens when it happens.
//
// The package needs nothing but the standard library, so both sides, built on different versions of raft, share it.
package drive

import "time"

// The commands.
const (
	Start        = "start"         // ID, Cluster, Dir, Listen, TLS: answered with URL
	AddPeer      = "add-peer"      // Peer, URLs
	AddRemote    = "add-remote"    // Peer, URLs
	UpdatePeer   = "update-peer"   // Peer, URLs
	RemovePeer   = "remove-peer"   // Peer
	Cut          = "cut"           // Peer
	Mend         = "mend"          // Peer
	Pause        = "pause"         //
	Resume       = "resume"        //
	Send         = "send"          // Messages
	SendSnapshot = "send-snapshot" // Messages[0], Database or File
	MarkRemoved  = "mark-removed"  // Peer: IsIDRemoved says so from now on
	SetAnswer    = "set-answer"    // Answer: what Process returns from now on
	Look         = "look"          // Peer: answered with ActiveSince, ActivePeers, Requests, Logged
	Stop         = "stop"          //
)

// Command is one line of the helper's standard input.
type Command struct {
	Seq      uint64    `json:"seq"`
	Op       string    `json:"op"`
	ID       uint64    `json:"id,omitempty"`
	Cluster  uint64    `json:"cluster,omitempty"`
	Dir      string    `json:"dir,omitempty"`    // databases of snapshots are saved here
	Listen   string    `json:"listen,omitempty"` // host:port; empty: a free port of loopback
	TLS      *TLS      `json:"tls,omitempty"`
	Peer     uint64    `json:"peer,omitempty"`
	URLs     []string  `json:"urls,omitempty"`
	Messages [][]byte  `json:"messages,omitempty"` // raftpb.Message
	Database *Database `json:"database,omitempty"` // generated
	File     string    `json:"file,omitempty"`     // read from here
	Answer   Answer    `json:"answer,omitempty"`
}

// TLS names the files of one member's certificate; it serves as client and server certificate, and peers must have one.
type TLS struct {
	Cert string `json:"cert"`
	Key  string `json:"key"`
	CA   string `json:"ca"`
}

// The events.
const (
	Done        = "done"        // Seq, Err, and what the command is answered with
	Received    = "received"    // Message: Process was called
	Unreachable = "unreachable" // Peer
	Snapshot    = "snapshot"    // Peer, OK: ReportSnapshot
	Closed      = "closed"      // Seq of the send-snapshot, OK: CloseNotify
	Failed      = "failed"      // Err: came out of ErrorC
)

// Event is one line of the helper's standard output.
type Event struct {
	Ev          string         `json:"ev"`
	Seq         uint64         `json:"seq,omitempty"`
	Err         string         `json:"err,omitempty"`
	URL         string         `json:"url,omitempty"`
	Message     []byte         `json:"message,omitempty"`
	Peer        uint64         `json:"peer,omitempty"`
	OK          bool           `json:"ok,omitempty"`
	ActiveSince time.Time      `json:"active_since,omitzero"`
	ActivePeers int            `json:"active_peers,omitempty"`
	Requests    map[string]int `json:"requests,omitempty"` // see Requests
	Logged      []string       `json:"logged,omitempty"`   // messages of the transport's log since the last look, but those for debugging
}
