package promise

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/snap"
)

// playStore: a receiver with a snap.Store in which a damaged database is.
func playStore(st *stage) {
	dir := st.dir("store")
	file := func(index uint64) string { return filepath.Join(dir, fmt.Sprintf("%016x.snap.db", index)) }
	st.must(os.MkdirAll(dir, 0o700))
	st.must(os.WriteFile(file(1), []byte("damaged"), 0o600))
	store, err := snap.Open(dir)
	st.must(err)
	if err != nil {
		return
	}
	st.atEnd(func() { _ = store.Close() })
	if second, err := snap.Open(dir); !errors.Is(err, snap.ErrInUse) {
		st.wrong("a directory that a Store has is opened once more: %v", err)
		if err == nil {
			_ = second.Close()
		}
	}
	refused := errors.New("not wanted")
	a := st.actor(1, "a", nil)
	b := st.actor(2, "b", func(b *actor) {
		b.Snapshotter = store
		b.process = func(m *raftpb.Message) error {
			if m.GetSnapshot().GetMetadata().GetIndex() > 1 {
				return refused
			}
			return nil
		}
	})
	a.AddPeer(2, []string{st.urlOf("b")})
	b.AddPeer(1, []string{st.urlOf("a")})
	send := func(index uint64, db []byte) (ok bool) {
		m := snap.NewMessage(st.snapshot(1, 2, index), io.NopCloser(bytes.NewReader(db)), int64(len(db)))
		a.SendSnapshot(m)
		select {
		case ok = <-m.CloseNotify():
		case <-time.After(3 * readTime):
			st.wrong("a snapshot has not ended after %v", 3*readTime)
		}
		return ok
	}
	db := st.book.content(uint64(st.IntN(1000)), 1+st.IntN(1<<20))
	if !send(1, db) {
		st.wrong("a snapshot is not sent where a damaged database of its index is")
	} else if is, err := os.ReadFile(file(1)); err != nil || !bytes.Equal(is, db) {
		st.wrong("a snapshot was sent, and its database is another: %v", err)
	}
	if send(2, db) {
		st.wrong("a snapshot whose message was refused is said to be sent")
	}
	if _, err := os.Stat(file(2)); err == nil {
		st.wrong("the database of a message that was refused stays")
	}
}
