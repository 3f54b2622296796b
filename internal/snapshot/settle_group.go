package snapshot

import (
	"fmt"
	"net/http"

	"github.com/seed-4d73690b/rafthttp/internal/errs"
	"github.com/seed-4d73690b/rafthttp/internal/protocol"
)

// askOfGroup is ask for a snapshot of a raft group, after the answer to the probe (extensions: snapshots of groups). A member
// without groups would save the database as its own, and give the message to its own raft. So both answers must
// state that the other end of this connection has groups, and the body goes over the same connection, whatever the
// plan is.
func (t *transfer) askOfGroup(conn *peerConn, probed *http.Response) (p protocol.SnapshotPlan, err error) {
	if err := servesGroups(probed); err != nil {
		return p, err
	}
	resp, err := t.askOffset(conn) //nolint:bodyclose // exchange has read and closed it
	if err != nil {
		return p, err
	}
	if err := servesGroups(resp); err != nil {
		return p, err
	}
	p.TellsWork = protocol.HasExtension(resp.Header, protocol.ExtensionWorking)
	if resp.StatusCode == http.StatusNotFound && p.TellsWork { // the group is there, and its Snapshotter does not resume
		t.receiverResumes = false
		return p, nil
	}
	return t.planBy(resp, p)
}

// servesGroups returns an error unless an answer is from a member with raft groups, on a connection that takes another request.
func servesGroups(resp *http.Response) error {
	if !protocol.HasExtension(resp.Header, protocol.ExtensionGroups) {
		return errs.ErrNoGroups
	}
	if resp.Close {
		return fmt.Errorf("%w: not on a connection that ends with each answer", errs.ErrNoGroups)
	}
	return nil
}
