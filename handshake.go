package rafthttp

import (
	"errors"
	"fmt"
	"net/http"

	"go.etcd.io/etcd/client/pkg/v3/types"

	"github.com/seed-4d73690b/rafthttp/internal/protocol"
)

// Headers (PROTOCOL.md, section 2).
const (
	headerFrom       = "X-Server-From"
	headerVersion    = "X-Server-Version"
	headerMinVersion = "X-Min-Cluster-Version"
	headerClusterID  = "X-Etcd-Cluster-Id" // canonical form of X-Etcd-Cluster-ID, as net/http writes it
	headerRaftTo     = "X-Raft-To"
	headerPeerURLs   = "X-Peerurls" // canonical form of X-PeerURLs
)

// absentVersion is what a request without a version header means
// (PROTOCOL.md, section 2).
var absentVersion = protocol.Version{Major: 2, Minor: 0}

// oldestStreamServer is the oldest server version that a stream is accepted
// from, by us as by stock members.
var oldestStreamServer = protocol.Version{Major: 2, Minor: 1}

// headerVersionOf reads a version header; an absent one means 2.0.0.
func headerVersionOf(h http.Header, name string) (protocol.Version, error) {
	s := h.Get(name)
	if s == "" {
		return absentVersion, nil
	}
	v, err := protocol.ParseVersion(s)
	if err != nil {
		return v, fmt.Errorf("header %s: %w", name, err)
	}
	return v, nil
}

// requestHeader returns the headers that every request to a peer carries
// (PROTOCOL.md, section 2).
func (s *settings) requestHeader() http.Header {
	h := http.Header{
		headerFrom:       {s.id.String()},
		headerVersion:    {s.serverVersionText},
		headerMinVersion: {s.minClusterVersionText},
		headerClusterID:  {s.clusterID.String()},
	}
	if urls := *s.urls.Load(); urls != "" {
		h[headerPeerURLs] = []string{urls}
	}
	return h
}

// checkRequest checks version and cluster of a request, in the order of
// PROTOCOL.md, sections 3.2 and 3.3.
func (s *settings) checkRequest(h http.Header) error {
	server, err := headerVersionOf(h, headerVersion)
	if err != nil {
		return protocol.BadRequest("%s", err)
	}
	minimum, err := headerVersionOf(h, headerMinVersion)
	if err != nil {
		return protocol.BadRequest("%s", err)
	}
	if server.Less(s.minClusterVersion) || s.serverVersion.Less(minimum) {
		return ErrIncompatibleVersion
	}
	if err := checkID(h, headerClusterID, s.clusterID, ErrClusterIDMismatch); !errors.Is(err, ErrClusterIDMismatch) {
		return err
	}
	return fmt.Errorf("%w: ours is %s, the requester's is %s", ErrClusterIDMismatch, s.clusterID, statedID(h, headerClusterID))
}

// checkTo checks that a stream is meant for the local member
// (PROTOCOL.md, section 3.5).
func (s *settings) checkTo(h http.Header) error {
	if err := checkID(h, headerRaftTo, s.id, ErrToMismatch); !errors.Is(err, ErrToMismatch) {
		return err
	}
	return fmt.Errorf("%w: this is %s, the request is for %s", ErrToMismatch, s.id, statedID(h, headerRaftTo))
}

// checkID returns mismatch unless the header states the wanted id.
func checkID(h http.Header, name string, want types.ID, mismatch error) error {
	if id := h.Get(name); id == want.String() {
		return nil
	} else if id != "" {
		if _, err := idHeader(h, name); err != nil {
			return err
		}
	}
	return mismatch
}

// statedID returns the id in a header for an error, or that there is none.
func statedID(h http.Header, name string) string {
	if id, err := idHeader(h, name); err == nil {
		return id.String()
	}
	return "not stated"
}

// idHeader reads a header that is the id of a member or a cluster.
func idHeader(h http.Header, name string) (types.ID, error) {
	id, err := types.IDFromString(h.Get(name))
	if err != nil {
		return 0, protocol.BadRequest("header %s: not a hexadecimal id: %.64q", name, h.Get(name))
	}
	return id, nil
}
