package protocol

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
)

// Headers (PROTOCOL.md, section 2).
const (
	HeaderFrom       = "X-Server-From"
	HeaderVersion    = "X-Server-Version"
	HeaderMinVersion = "X-Min-Cluster-Version"
	HeaderClusterID  = "X-Etcd-Cluster-Id" // canonical form of X-Etcd-Cluster-ID, as net/http writes it
	HeaderRaftTo     = "X-Raft-To"
	HeaderPeerURLs   = "X-Peerurls" // canonical form of X-PeerURLs
)

// Limits of the peer URLs that one member states.
const (
	MaxPeerURLs      = 32
	MaxPeerURLsBytes = 8 << 10 // of their header
)

// absentVersion is the version of a request or an answer without a version header (PROTOCOL.md, section 2).
var absentVersion = Version{Major: 2, Minor: 0}

// oldestStreamServer is the oldest server whose streams members read, stock ones included.
var oldestStreamServer = Version{Major: 2, Minor: 1}

// versionIn reads a version header; an absent one means 2.0.0.
func versionIn(h http.Header, name string) (Version, error) {
	s := h.Get(name)
	if s == "" {
		return absentVersion, nil
	}
	v, err := ParseVersion(s)
	if err != nil {
		return v, fmt.Errorf("header %s: %w", name, err)
	}
	return v, nil
}

// checkID returns mismatch unless the header states the wanted id.
func checkID(h http.Header, name string, want types.ID, mismatch error) error {
	if id := h.Get(name); id == want.String() {
		return nil
	} else if id != "" {
		if _, err := idIn(h, name); err != nil {
			return err
		}
	}
	return mismatch
}

// statedID returns the id in a header as text for an error.
func statedID(h http.Header, name string) string {
	if id, err := idIn(h, name); err == nil {
		return id.String()
	}
	return "not stated"
}

// idIn reads a header that is the id of a member or a cluster.
func idIn(h http.Header, name string) (types.ID, error) {
	id, err := types.IDFromString(h.Get(name))
	if err != nil {
		return 0, BadRequest("header %s: not a hexadecimal id: %.64q", name, h.Get(name))
	}
	return id, nil
}

// SenderIn returns the member that a request states as its sender; 0: none.
func SenderIn(h http.Header) (types.ID, error) {
	if h.Get(HeaderFrom) == "" {
		return 0, nil
	}
	id, err := idIn(h, HeaderFrom)
	if err == nil && id == 0 {
		err = BadRequest("header %s: no member has the id 0", HeaderFrom)
	}
	return id, err
}

// ClusterIn returns the cluster that a request or an answer states.
func ClusterIn(h http.Header) (types.ID, error) { return idIn(h, HeaderClusterID) }

// PeerURLsIn returns the peer URLs that the sender of a request states, as text for ParsePeerURLs; "": none.
func PeerURLsIn(h http.Header) (string, error) {
	list := h.Get(HeaderPeerURLs)
	if len(list) > MaxPeerURLsBytes || strings.Count(list, ",") >= MaxPeerURLs {
		return "", BadRequest("header %s: over %d bytes or %d URLs", HeaderPeerURLs, MaxPeerURLsBytes, MaxPeerURLs)
	}
	return list, nil
}

// ParsePeerURLs parses the result of PeerURLsIn.
func ParsePeerURLs(list string) (types.URLs, error) {
	urls, err := types.NewURLs(strings.Split(list, ","))
	if err != nil {
		return nil, BadRequest("header %s: %.256s", HeaderPeerURLs, err)
	}
	return urls, nil
}

// StreamHead returns the head of the answer on a hijacked connection, whose body ends with it.
func StreamHead(h http.Header, now time.Time) []byte {
	h = h.Clone()
	h.Set("Date", now.UTC().Format(http.TimeFormat))
	h.Set("Connection", "close")
	head := bytes.NewBufferString("HTTP/1.1 200 OK\r\n")
	_ = h.Write(head) // a write to a buffer never fails
	head.WriteString("\r\n")
	return head.Bytes()
}
