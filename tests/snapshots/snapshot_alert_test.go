package snapshots_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/internal/testtls"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// TestSnapshotNamesTheAlert: a receiver that refuses our certificate says so by an alert, with TLS 1.3 in place of its first
// answer. That is why the snapshot fails, not what becomes of a body that is sent all the same.
func TestSnapshotNamesTheAlert(t *testing.T) {
	const size = 8 << 20
	ours, theirs := testtls.NewAuthority(t), testtls.NewAuthority(t)
	info := ours.Member(t, 2)
	info.TrustedCAFile = theirs.File("ca.pem")
	b := testtls.Start(t, "https", 2, info, nil)
	for range 5 {
		ended := make(chan error, 1)
		a := testtls.Start(t, "https", 1, ours.Member(t, 1), func(tr *rafthttp.Transport) { tr.Observer = sentTo(ended) })
		a.AddPeer(2, []string{b.URL})
		a.SendSnapshot(snap.NewMessage(testmember.MsgSnap(2, 1, 7), fileWith(t, nil, testmember.RandomBytes(size)), size))
		require.ErrorContains(t, <-ended, "remote error: tls: ")
		require.Zero(t, a.Status().Peers[0].LastSnapshot.Bytes, "nothing was sent")
	}
}
