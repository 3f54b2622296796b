package snapshot

import (
	"errors"
	"io"
	"sync"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"

	"github.com/seed-4d73690b/rafthttp/internal/conn"
	"github.com/seed-4d73690b/rafthttp/internal/protocol"
	"github.com/seed-4d73690b/rafthttp/snap"
)

const (
	// maxInstalled is how many transfers with a processed message a receiver remembers, and installedFor how long: a
	// sender that has to sum up the database first needs maxSumming for another attempt.
	maxInstalled = 64
	installedFor = 10 * time.Minute
)

// installed is a transfer whose database was saved and whose message was processed. Its sender may not know: the connection
// broke before the answer. Further attempts are answered from here, and take no place.
type installed struct {
	id  protocol.TransferID // not 0
	key snap.Transfer
	sum uint32 // of the database
	at  time.Time

	again *conn.RequestBody // of another attempt that is being read; may be nil
}

// installedList has the last installed transfers. It is safe for concurrent use.
type installedList struct {
	mu  sync.Mutex
	all []*installed // oldest first
}

func (l *installedList) add(t *installed) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.all) >= maxInstalled {
		l.all = append(l.all[:0], l.all[1:]...)
	}
	t.at = time.Now()
	l.all = append(l.all, t)
}

// find returns the transfer of a member with this id, or nil. It is called with mu held.
func (l *installedList) find(from types.ID, id protocol.TransferID) *installed {
	for _, t := range l.all {
		if id != 0 && t.id == id && t.key.From == uint64(from) && time.Since(t.at) < installedFor {
			return t
		}
	}
	return nil
}

// offset answers a question about an installed transfer: all bytes are present.
func (l *installedList) offset(q protocol.SnapshotQuestion) (offset int64, sum uint32, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t := l.find(types.ID(q.About.From), q.ID); t != nil && t.key == q.About {
		return t.key.Size, t.sum, true
	}
	return 0, 0, false
}

// begin returns the installed transfer that the attempt with this body repeats, or nil. It ends an older
// such attempt. The caller ends the new one.
func (l *installedList) begin(from types.ID, id protocol.TransferID, p protocol.SnapshotPlan, b *conn.RequestBody) *installed {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.find(from, id)
	if t == nil || !p.Resumable || p.Offset != t.key.Size {
		return nil
	}
	if t.again != nil {
		t.again.Cut(protocol.ErrSnapshotCut)
	}
	t.again = b
	return t
}

func (l *installedList) end(t *installed, b *conn.RequestBody) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t.again == b {
		t.again = nil
	}
}

// readAgain reads the body of another attempt at an installed transfer: the message, and the checksum. The answer to
// its question has told the sender that the databases are equal.
func (r *Receiver) readAgain(in Incoming, b *conn.RequestBody) error {
	const most = frameLength + MaxHeadBytes + protocol.SnapshotTrailerBytes
	if b.Length() < 0 || b.Length() > most {
		in.CloseAfter()
		return protocol.BadRequest("a resumed snapshot without a length that fits")
	}
	if _, err := io.Copy(io.Discard, b); err != nil || b.BytesRead() != b.Length() {
		in.CloseAfter()
		return protocol.SnapshotNotSaved(broke(b, errors.Join(err, b.Err())))
	}
	return nil
}
