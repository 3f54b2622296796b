package promise

import (
	"bytes"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/seed-4d73690b/rafthttp/snap"
)

// capturing is a Snapshotter that does not resume, and keeps the last database.
type capturing struct {
	mu sync.Mutex
	db []byte
}

// SaveDBFrom implements rafthttp.Snapshotter.
func (c *capturing) SaveDBFrom(r io.Reader, _ uint64) (int64, error) {
	db, err := io.ReadAll(r)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.db = db
	return int64(len(db)), err
}

// playHeadAndTail: in the middle of a transfer its receiver is started anew, and does not resume any more.
func playHeadAndTail(st *stage) {
	const rate = 128 << 10
	st.receiver(rate)
	db := st.book.content(uint64(st.IntN(1000)), 6*rate)
	m := st.databaseOf(db)
	st.sender().SendSnapshot(m)
	time.Sleep(time.Duration(1000+st.IntN(3000)) * time.Millisecond)
	st.net.Host(st.host("b")).Crash()
	c := new(capturing)
	b := st.actor(2, "b", func(b *actor) { b.Snapshotter = c })
	b.AddPeer(1, []string{st.urlOf("a")})
	sent := st.ended(m)
	c.mu.Lock()
	defer c.mu.Unlock()
	if !sent || !bytes.Equal(c.db, db) {
		st.wrong("a receiver that does not resume any more has %d bytes of %d, or others; the snapshot is said to be sent: %t", len(c.db), len(db), sent)
	}
}

// slowSource is a reader that can go back, and needs 200 ms for 32 KiB.
type slowSource struct{ seekable }

// Read implements io.Reader.
func (s slowSource) Read(p []byte) (int, error) {
	time.Sleep(200 * time.Millisecond)
	return s.seekable.Read(p[:min(len(p), slowChunk)])
}

// playSlowSource: what the receiver has takes longer to read again than a connection may be idle.
func playSlowSource(st *stage) {
	store, err := snap.Open(st.dir("store"))
	st.must(err)
	st.atEnd(func() { _ = store.Close() })
	k := &keeping{Store: store}
	b := st.newActor(2, "b", func(b *actor) { b.Snapshotter = struct{ saver }{k} })
	st.must(b.Start())
	st.atEnd(b.Stop)
	ln, err := st.net.Host(st.host("b")).Listen("80")
	st.must(err)
	st.serveOn(ln, &http.Server{Handler: b.Handler(), IdleTimeout: readTime, ReadHeaderTimeout: readTime})
	b.AddPeer(1, []string{st.urlOf("a")})
	db := st.book.content(uint64(st.IntN(1000)), 3<<20)
	m := snap.NewMessage(st.snapshot(1, 2, 1), slowSource{seekable{bytes.NewReader(db)}}, int64(len(db)))
	st.sender().SendSnapshot(m)
	time.Sleep(time.Duration(12_000+st.IntN(4000)) * time.Millisecond)
	st.net.Reset(st.host("a"), st.host("b"))
	select {
	case ok := <-m.CloseNotify():
		if !ok || !bytes.Equal(st.saved(k), db) {
			st.wrong("a snapshot whose reader is slow is not sent once its connection broke")
		}
	case <-time.After(time.Minute):
		st.wrong("a snapshot whose reader is slow has not ended a minute after its connection broke")
	}
}

// slowlyRead is a reader that can go back, each Read of which takes 3 s.
type slowlyRead struct{ seekable }

// Read implements io.Reader.
func (s slowlyRead) Read(p []byte) (int, error) {
	time.Sleep(3 * time.Second)
	return s.seekable.Read(p)
}

// playSlowRead: a connection breaks during a Read.
func playSlowRead(st *stage) {
	k := st.receiver(0)
	db := st.book.content(uint64(st.IntN(1000)), 1<<20)
	m := snap.NewMessage(st.snapshot(1, 2, 1), slowlyRead{seekable{bytes.NewReader(db)}}, int64(len(db)))
	st.sender().SendSnapshot(m)
	time.Sleep(time.Duration(6500+st.IntN(1500)) * time.Millisecond)
	st.net.Reset(st.host("a"), st.host("b"))
	select {
	case ok := <-m.CloseNotify():
		if !ok || !bytes.Equal(st.saved(k), db) {
			st.wrong("a snapshot whose connection broke during a Read is not sent")
		}
	case <-time.After(2 * time.Minute):
		st.wrong("a snapshot whose connection broke during a Read has not ended")
	}
}

// hangingDisk is a Snapshotter that stands still in the middle.
type hangingDisk struct{}

// SaveDBFrom implements rafthttp.Snapshotter.
func (hangingDisk) SaveDBFrom(r io.Reader, _ uint64) (int64, error) {
	n, err := io.CopyN(io.Discard, r, 1)
	if err != nil {
		return n, err
	}
	time.Sleep(4 * readTime)
	m, err := io.Copy(io.Discard, r)
	return n + m, err
}

// playHangingDisk: a receiver stands still for longer than the sender waits for an answer.
func playHangingDisk(st *stage) {
	b := st.actor(2, "b", func(b *actor) { b.Snapshotter = hangingDisk{} })
	b.AddPeer(1, []string{st.urlOf("a")})
	a := st.actor(1, "a", func(a *actor) { a.SnapshotAnswerTimeout = readTime })
	a.AddPeer(2, []string{st.urlOf("b")})
	m := st.databaseOf(st.book.content(1, 1+st.IntN(1<<20)))
	a.SendSnapshot(m)
	if !st.ended(m) {
		st.wrong("a snapshot is not sent whose receiver says that it is at work")
	}
}
