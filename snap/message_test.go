package snap_test

import (
	"errors"
	"io"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/seed-4d73690b/rafthttp/snap"
)

// closer counts its Close calls and runs onClose in each.
type closer struct {
	io.Reader
	onClose func() error
	count   int
}

func (c *closer) Close() error {
	c.count++
	if c.onClose == nil {
		return nil
	}
	return c.onClose()
}

func msgSnap() *raftpb.Message {
	return &raftpb.Message{Type: raftpb.MsgSnap.Enum(), To: proto.Uint64(2), From: proto.Uint64(1)}
}

// notified returns the values that wait in the channel of CloseNotify.
func notified(m *snap.Message) []bool {
	var got []bool
	for {
		select {
		case ok := <-m.CloseNotify():
			got = append(got, ok)
		default:
			return got
		}
	}
}

func TestMessageSizes(t *testing.T) {
	rs := msgSnap()
	m := snap.NewMessage(rs, io.NopCloser(strings.NewReader("database")), 8)
	require.Same(t, rs, m.Message)
	require.Equal(t, int64(proto.Size(rs)+8), m.TotalSize)
	require.Equal(t, int64(8), m.DatabaseSize())

	literal := &snap.Message{Message: rs, TotalSize: int64(proto.Size(rs) + 5)}
	require.Equal(t, int64(5), literal.DatabaseSize())
	require.Zero(t, (&snap.Message{Message: rs}).DatabaseSize(), "never negative")
}

func TestCloseWithErrorNotifiesOnce(t *testing.T) {
	cause := errors.New("sending failed")
	tests := []struct {
		name    string
		onClose func() error
		err     error
		want    bool
	}{
		{name: "sent", want: true},
		{name: "not sent", err: cause},
		{name: "sent, and close fails", onClose: func() error { return cause }, want: true},
		{name: "sent, and close panics", onClose: func() error { panic("in Close") }, want: true},
		{name: "not sent, and close panics", onClose: func() error { panic("in Close") }, err: cause},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			rc := &closer{onClose: tc.onClose}
			m := snap.NewMessage(msgSnap(), rc, 0)
			require.Empty(t, notified(m), "nothing before it is closed")
			m.CloseWithError(tc.err)
			m.CloseWithError(nil)
			m.CloseWithError(cause)
			require.Equal(t, 1, rc.count)
			require.Equal(t, []bool{tc.want}, notified(m))
		})
	}
}

func TestCloseWithErrorNotifiesAfterClosing(t *testing.T) {
	rc := &closer{}
	m := snap.NewMessage(msgSnap(), rc, 0)
	rc.onClose = func() error {
		require.Empty(t, notified(m))
		m.CloseWithError(nil) // from inside: nothing, and no deadlock
		return nil
	}
	m.CloseWithError(errors.New("not sent"))
	require.Equal(t, []bool{false}, notified(m))
	require.Equal(t, 1, rc.count)
}

func TestCloseWithErrorConcurrently(t *testing.T) {
	rc := &closer{}
	m := snap.NewMessage(msgSnap(), rc, 0)
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() { m.CloseWithError(nil) })
	}
	wg.Wait()
	require.Equal(t, 1, rc.count)
	require.Equal(t, []bool{true}, notified(m))
}

func TestCloseWithErrorWhenCloseEndsItsGoroutine(t *testing.T) {
	m := snap.NewMessage(msgSnap(), &closer{onClose: func() error { runtime.Goexit(); return nil }}, 0)
	var wg sync.WaitGroup
	wg.Go(func() { m.CloseWithError(nil) })
	wg.Wait()
	require.Equal(t, []bool{true}, notified(m))
}

func TestMessageWithoutReader(t *testing.T) {
	m := snap.NewMessage(msgSnap(), nil, 0)
	m.CloseWithError(nil)
	require.Equal(t, []bool{true}, notified(m))

	var typedNil *closer
	m = snap.NewMessage(msgSnap(), typedNil, 0)
	m.CloseWithError(nil)
	require.Equal(t, []bool{true}, notified(m))
}

func TestMessageLiteral(t *testing.T) {
	rc := &closer{}
	m := &snap.Message{Message: msgSnap(), ReadCloser: rc}
	require.Nil(t, m.CloseNotify())
	m.CloseWithError(nil)
	m.CloseWithError(nil)
	require.Equal(t, 1, rc.count)
	(&snap.Message{}).CloseWithError(nil)
}
