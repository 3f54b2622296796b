package protocol

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"go.etcd.io/etcd/client/pkg/v3/types"
)

// Member is the local member: it states itself in requests and answers, and checks those of others. It does not change.
type Member struct {
	ID, ClusterID               types.ID
	Version, MinVersion         Version
	VersionText, MinVersionText string
	Extensions                  string // as HeaderExtensions states them; "": none

	// Groups reports whether the member has had raft groups: it states ExtensionGroups then. Nil: no.
	Groups func() bool
}

// RequestHeader returns the headers of every request (PROTOCOL.md, section 2). urls are the peer URLs of the
// member, separated by commas; "": not stated.
func (m *Member) RequestHeader(urls string) http.Header {
	h := http.Header{
		HeaderFrom:       {m.ID.String()},
		HeaderVersion:    {m.VersionText},
		HeaderMinVersion: {m.MinVersionText},
		HeaderClusterID:  {m.ClusterID.String()},
	}
	if urls != "" {
		h[HeaderPeerURLs] = []string{urls}
	}
	return h
}

// StreamHeader returns the headers of a request for a stream of another member.
func (m *Member) StreamHeader(urls string, to types.ID) http.Header {
	h := m.RequestHeader(urls)
	h.Set(HeaderRaftTo, to.String())
	m.stateExtensions(h)
	return h
}

// StateIn sets the headers of answers of an endpoint (PROTOCOL.md, section 2; extensions). A client of a stream
// ignores an answer without a version, even 410.
func (m *Member) StateIn(h http.Header, at Endpoint) {
	if at != EndpointProbe {
		h.Set(HeaderClusterID, m.ClusterID.String())
	}
	if at&(EndpointStreams|EndpointOffset) != 0 {
		h.Set(HeaderVersion, m.VersionText)
	}
	if at&EndpointMessages == 0 {
		m.stateExtensions(h)
	}
}

func (m *Member) stateExtensions(h http.Header) {
	list := m.Extensions
	if m.Groups != nil && m.Groups() {
		list = strings.TrimPrefix(list+", "+ExtensionGroups, ", ")
	}
	if list != "" {
		h.Set(HeaderExtensions, list)
	}
}

// CheckRequest checks version and cluster of a request, in the order of PROTOCOL.md, sections 3.2 and 3.3.
func (m *Member) CheckRequest(h http.Header) error {
	server, err := versionIn(h, HeaderVersion)
	if err != nil {
		return BadRequest("%s", err)
	}
	minimum, err := versionIn(h, HeaderMinVersion)
	if err != nil {
		return BadRequest("%s", err)
	}
	if server.Less(m.MinVersion) || m.Version.Less(minimum) {
		return ErrIncompatibleVersion
	}
	if err := checkID(h, HeaderClusterID, m.ClusterID, ErrClusterIDMismatch); !errors.Is(err, ErrClusterIDMismatch) {
		return err
	}
	return fmt.Errorf("%w: ours is %s, the requester's is %s", ErrClusterIDMismatch, m.ClusterID, statedID(h, HeaderClusterID))
}

// CheckTo checks that a request is for the local member (PROTOCOL.md, section 3.5).
func (m *Member) CheckTo(h http.Header) error {
	if err := checkID(h, HeaderRaftTo, m.ID, ErrToMismatch); !errors.Is(err, ErrToMismatch) {
		return err
	}
	return fmt.Errorf("%w: this is %s, the request is for %s", ErrToMismatch, m.ID, statedID(h, HeaderRaftTo))
}

// AnswerError returns the meaning of an answer of an endpoint, nil for success: an error of this package, or an
// *UnexpectedAnswer. A stream is not read from a server that states no version or one before 2.1, and no other error is
// accepted from such a server. AnswerError reads a limited part of the body and does not close it.
func (m *Member) AnswerError(resp *http.Response, at Endpoint) error {
	err := answerError(resp, at, m.IsOfOurCluster(resp.Header))
	if errors.Is(err, ErrClusterIDMismatch) {
		err = fmt.Errorf("%w: ours is %s, the peer's is %s", err, m.ClusterID, statedID(resp.Header, HeaderClusterID))
	}
	if at&EndpointStreams == 0 || (err != nil && !errors.Is(err, ErrMemberRemoved)) {
		return err
	}
	v, verr := versionIn(resp.Header, HeaderVersion)
	if verr != nil {
		return verr
	}
	if v.Less(oldestStreamServer) {
		return fmt.Errorf("server version %d.%d: %w", v.Major, v.Minor, ErrIncompatibleVersion)
	}
	return err
}

// IsOfOurCluster reports whether an answer is from our cluster: its members state its id in every answer, other web
// servers do not.
func (m *Member) IsOfOurCluster(h http.Header) bool {
	id, err := types.IDFromString(h.Get(HeaderClusterID))
	return err == nil && id == m.ClusterID
}
