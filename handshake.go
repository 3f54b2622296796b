package rafthttp

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"go.etcd.io/etcd/client/pkg/v3/types"
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
var absentVersion = version{2, 0}

// oldestStreamServer is the oldest server version that a stream is accepted
// from, by us as by stock members.
var oldestStreamServer = version{2, 1}

// version is what counts of a semantic version here.
type version struct{ major, minor int }

func (v version) less(w version) bool {
	return v.major < w.major || (v.major == w.major && v.minor < w.minor)
}

// parseVersion reads a semantic version: major.minor.patch, which may be
// followed by a pre-release (-) and metadata (+).
func parseVersion(s string) (version, error) {
	rest, metadata, _ := strings.Cut(s, "+")
	core, preRelease, _ := strings.Cut(rest, "-")
	parts := strings.Split(core, ".")
	if len(s) > 128 || len(parts) != 3 || !isIdentifier(preRelease) || !isIdentifier(metadata) {
		return version{}, notVersion(s)
	}
	var n [3]int
	for i, p := range parts {
		v, err := strconv.ParseUint(p, 10, 31)
		if err != nil {
			return version{}, notVersion(s)
		}
		n[i] = int(v)
	}
	return version{n[0], n[1]}, nil
}

func notVersion(s string) error { return fmt.Errorf("not a semantic version: %.128q", s) }

// isIdentifier reports whether s has only what may follow the numbers of a
// semantic version.
func isIdentifier(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '.' || r == '-')
	})
}

// headerVersionOf reads a version header; an absent one means 2.0.0.
func headerVersionOf(h http.Header, name string) (version, error) {
	s := h.Get(name)
	if s == "" {
		return absentVersion, nil
	}
	v, err := parseVersion(s)
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
		return &badRequest{http.StatusBadRequest, err.Error()}
	}
	minimum, err := headerVersionOf(h, headerMinVersion)
	if err != nil {
		return &badRequest{http.StatusBadRequest, err.Error()}
	}
	if server.less(s.minClusterVersion) || s.serverVersion.less(minimum) {
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
		return 0, &badRequest{http.StatusBadRequest, fmt.Sprintf("header %s: not a hexadecimal id: %.64q", name, h.Get(name))}
	}
	return id, nil
}
