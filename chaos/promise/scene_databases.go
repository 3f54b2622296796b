package promise

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/seed-4d73690b/rafthttp/snap"
)

// keeping is a Snapshotter that resumes by a snap.Store, and counts what broke off.
type keeping struct {
	*snap.Store
	mu     sync.Mutex
	calls  int
	broken int
	offset int64 // of the last call
}

// ResumeDBFrom implements rafthttp.ResumingSnapshotter.
func (k *keeping) ResumeDBFrom(r io.Reader, t snap.Transfer, offset int64, sum func() (uint32, error)) (int64, error) {
	n, err := k.Store.ResumeDBFrom(r, t, offset, sum)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.calls++
	k.offset = offset
	if err != nil {
		k.broken++
	}
	return n, err
}

// receiver starts a member 2 that keeps databases, and whose link from the host a has so many bytes a second.
func (st *stage) receiver(rate int) *keeping {
	store, err := snap.Open(st.dir("store"))
	st.must(err)
	k := &keeping{Store: store}
	st.atEnd(func() { _ = store.Close() })
	b := st.actor(2, "b", func(b *actor) { b.Snapshotter = struct{ saver }{k} })
	b.AddPeer(1, []string{st.urlOf("a")})
	st.net.Link(st.host("a"), st.host("b")).SetBandwidth(rate)
	return k
}

// saver is what a keeping is, without the question whether the disk has room: that asks the system.
type saver interface {
	SaveDBFrom(r io.Reader, id uint64) (int64, error)
	PartialDB(t snap.Transfer) (int64, uint32)
	ResumeDBFrom(r io.Reader, t snap.Transfer, offset int64, checksum func() (uint32, error)) (int64, error)
	DiscardDB(id uint64, cause error)
}

// sender starts a member 1.
func (st *stage) sender() *actor {
	a := st.actor(1, "a", nil)
	a.AddPeer(2, []string{st.urlOf("b")})
	return a
}

// saved returns the database of index 1 that the receiver has.
func (st *stage) saved(k *keeping) []byte {
	path, err := k.DBFilePath(1)
	if err != nil {
		return nil
	}
	b, err := os.ReadFile(path)
	st.must(err)
	return b
}

// ended waits for the end of a snapshot.
func (st *stage) ended(m *snap.Message) bool {
	const within = 6 * readTime
	select {
	case ok := <-m.CloseNotify():
		return ok
	case <-time.After(within):
		st.wrong("a snapshot has not ended after %v", within)
		return false
	}
}

// seekable is a reader that can go back.
type seekable struct{ *bytes.Reader }

// Close implements io.Closer.
func (seekable) Close() error { return nil }

func (st *stage) databaseOf(db []byte) *snap.Message {
	return snap.NewMessage(st.snapshot(1, 2, 1), seekable{bytes.NewReader(db)}, int64(len(db)))
}

// fileOf makes a file.
func (st *stage) fileOf(data []byte) *os.File {
	path := filepath.Join(st.cfg.Dir, st.host("sent"))
	st.must(os.WriteFile(path, data, 0o600))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	st.must(err)
	return f
}

// playChangedFile: a file is written to while it is sent.
func playChangedFile(st *stage) {
	const rate = 128 << 10
	k := st.receiver(rate)
	a := st.sender()
	before, after := st.book.content(1, 4*rate), st.book.content(2, 4*rate)
	f := st.fileOf(before)
	m := snap.NewMessage(st.snapshot(1, 2, 1), f, int64(len(before)))
	a.SendSnapshot(m)
	time.Sleep(time.Duration(500+st.IntN(2500)) * time.Millisecond)
	if st.IntN(2) == 0 { // between two attempts
		st.net.Reset(st.host("a"), st.host("b"))
	}
	st.must(os.WriteFile(f.Name(), after, 0o600))
	st.must(os.Chtimes(f.Name(), time.Now(), time.Now().Add(time.Hour)))
	sent := st.ended(m)
	is := st.saved(k)
	if sent || is != nil {
		st.wrong("a file that changed while it was sent is said to be sent: %t; what is saved is the one before: %t, the one after: %t",
			sent, bytes.Equal(is, before), bytes.Equal(is, after))
	}
}

// playTwins: one snapshot is sent twice at once.
func playTwins(st *stage) {
	const rate = 128 << 10
	k := st.receiver(rate)
	a := st.sender()
	db := st.book.content(uint64(st.IntN(1000)), 3*rate)
	one, two := st.databaseOf(db), st.databaseOf(db)
	a.SendSnapshot(one)
	time.Sleep(time.Duration(st.IntN(1500)) * time.Millisecond)
	a.SendSnapshot(two)
	first, second := st.ended(one), st.ended(two)
	k.mu.Lock()
	defer k.mu.Unlock()
	if !first || !second || k.broken > 0 {
		st.wrong("of two transfers of one snapshot, the first is sent: %t, the second: %t; %d of %d attempts were interrupted", first, second, k.broken, k.calls)
	}
}

// playOtherBytes: a sender ends in the middle of a transfer. When it is back, the database of the same snapshot is another.
func playOtherBytes(st *stage) {
	const rate = 128 << 10
	k := st.receiver(rate)
	before, after := st.book.content(1, 3*rate), st.book.content(2, 3*rate)
	a := st.newActor(1, "a", nil)
	st.must(a.Start())
	a.AddPeer(2, []string{st.urlOf("b")})
	m := st.databaseOf(before)
	a.SendSnapshot(m)
	time.Sleep(time.Duration(500+st.IntN(2000)) * time.Millisecond)
	a.Stop()
	<-m.CloseNotify()
	time.Sleep(time.Second)
	m = st.databaseOf(after)
	st.sender().SendSnapshot(m)
	if !st.ended(m) || !bytes.Equal(st.saved(k), after) {
		st.wrong("the database that is saved is not the one that was sent last")
	}
}

// playLong: a transfer to a receiver that does not resume takes longer than any timeout.
func playLong(st *stage) {
	const rate = 64 << 10
	st.actor(2, "b", func(b *actor) { b.Snapshotter = discarding{} })
	st.net.Link(st.host("a"), st.host("b")).SetBandwidth(rate)
	m := st.databaseOf(st.book.content(1, (12+st.IntN(10))*rate))
	st.sender().SendSnapshot(m)
	if !st.ended(m) {
		st.wrong("a snapshot whose bytes move is not sent")
	}
}
