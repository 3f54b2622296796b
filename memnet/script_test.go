package memnet_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// scripts are what happens on connections between a and b, one step a line: who does what, and its result. They are run on a
// network in memory, with sockets, and on loopback.
var scripts = map[string][]string{
	"close with unread data": {
		"b write 10 | 10",
		"a write 5 | 5",
		"a close | ok",
		"b read 3 | 3",
		"b read 100 | 2",
		"b read 100 | 0 read ECONNRESET",
		"b read 100 | 0 EOF",
		"b write 1 | 0 write EPIPE",
		"b closewrite | close ENOTCONN",
		"b close | ok",
	},
	"close with unread data, the writer is told first": {
		"b write 10 | 10",
		"a write 5 | 5",
		"a close | ok",
		"b write 1 | 0 write ECONNRESET",
		"b write 1 | 0 write EPIPE",
		"b read 100 | 5",
		"b read 100 | 0 EOF",
	},
	"close with unread data, writev and sendfile are told": {
		"b write 10 | 10",
		"a close | ok",
		"b writev 10 | 0 writev ECONNRESET",
		"b sendfile 10 | 0 readfrom EPIPE",
		"b writev 10 | 0 writev EPIPE",
	},
	"close after all was read": {
		"a write 5 | 5",
		"a close | ok",
		"b read 100 | 5",
		"b read 100 | 0 EOF",
		"b read 100 | 0 EOF",
		"b write 1 | 1", // which is answered with a reset
		"b write 1 | 0 write EPIPE",
		"b read 100 | 0 EOF",
		"b close | ok",
	},
	"close of both": {
		"a write 5 | 5",
		"a close | ok",
		"b close | ok",
		"b close | close closed",
	},
	"bytes to a closed socket": {
		"a close | ok",
		"b write 3 | 3",
		"b write 3 | 0 write EPIPE",
	},
	"half-close": {
		"a write 5 | 5",
		"a closewrite | ok",
		"a closewrite | ok",
		"a write 1 | 0 write EPIPE",
		"a writev 1 | 0 writev EPIPE",
		"b read 100 | 5",
		"b read 100 | 0 EOF",
		"b write 7 | 7",
		"a read 100 | 7",
		"b closewrite | ok",
		"a read 100 | 0 EOF",
		"a closewrite | close ENOTCONN",
		"b closewrite | close ENOTCONN",
		"b write 1 | 0 write EPIPE",
		"a close | ok",
		"b close | ok",
	},
	"half-close, then a reset": {
		"a write 5 | 5",
		"a closewrite | ok",
		"b write 10 | 10",
		"a close | ok", // with unread data
		"b read 100 | 5",
		"b read 100 | 0 EOF", // its end had come before
		"b write 1 | 0 write EPIPE",
	},
	"half-close of both, then a reset": {
		"b write 10 | 10",
		"a closewrite | ok",
		"b closewrite | ok",
		"a close | ok", // with unread data, but there is nobody who could be told
		"b read 100 | 0 EOF",
		"b write 1 | 0 write EPIPE",
	},
	"a reset meets a half-closed socket": {
		"a closewrite | ok",
		"b write 5 | 5",
		"b linger0 | ok",
		"b close | ok",
		"a read 100 | 5",
		"a read 100 | 0 read ECONNRESET",
		"a read 100 | 0 EOF",
		"a closewrite | close ENOTCONN",
	},
	"a reset after a half-close is told to the writer": {
		"a closewrite | ok",
		"b linger0 | ok",
		"b close | ok",
		"a write 5 | 0 write ECONNRESET",
		"a write 5 | 0 write EPIPE",
	},
	"close without lingering": {
		"a write 5 | 5",
		"a linger0 | ok",
		"a close | ok",
		"b read 100 | 5",
		"b read 100 | 0 read ECONNRESET",
		"b read 100 | 0 EOF",
	},
	"a full buffer is sent after close": {
		"a fill | part write timeout",
		"a close | ok",
		"b readall | all EOF",
	},
	"a full buffer is lost without lingering": {
		"a fill | part write timeout",
		"a linger0 | ok",
		"a close | ok",
		"b readall | part read ECONNRESET",
	},
	"a full buffer is sent after half-close": {
		"a fill | part write timeout",
		"a closewrite | ok",
		"b readall | all EOF",
		"b write 5 | 5",
		"a read 100 | 5",
	},
	"a full buffer, and unread data": {
		"a fill | part write timeout",
		"b write 5 | 5",
		"a close | ok",
		"b readall | part read ECONNRESET",
	},
	"both buffers are full": {
		"a fill | part write timeout",
		"b fill | part write timeout",
		"a drain | all",
		"b drain | all",
		"a write 5 | 5",
		"b read 100 | 5",
	},
	"writes go on after a deadline": {
		"a fill | part write timeout",
		"b drain | all",
		"a fillv | part writev timeout",
		"b drain | all",
		"a fillfile | part readfrom timeout",
		"b drain | all",
		"a writev 1000 | 1000",
		"a sendfile 1000 | 1000",
		"a write 1000 | 1000",
		"a close | ok",
		"b readall | all EOF",
	},
	"deadlines": {
		"b write 5 | 5",
		"a past read | ok",
		"a read 100 | 0 read timeout", // although there are bytes
		"a read 0 | 0",
		"a write 1 | 1",
		"a none | ok",
		"a read 100 | 5",
		"a soon read | ok",
		"a read 100 | 0 read timeout",
		"a read 100 | 0 read timeout",
		"a past write | ok",
		"a write 1 | 0 write timeout",
		"a write 0 | 0 write timeout",
		"a writev 1 | 0 writev timeout",
		"a none | ok",
		"a write 1 | 1",
		"b read 100 | 2",
	},
	"a deadline comes before a reset": {
		"b write 5 | 5",
		"a close | ok",
		"b past both | ok",
		"b write 1 | 0 write timeout",
		"b read 1 | 0 read timeout",
		"b none | ok",
		"b read 1 | 0 read ECONNRESET",
	},
	"use after close": {
		"a past both | ok",
		"a close | ok",
		"a read 100 | 0 read closed",
		"a read 0 | 0 read closed",
		"a write 100 | 0 write closed",
		"a writev 100 | 0 writev closed",
		"a sendfile 100 | 0 readfrom closed",
		"a closewrite | close closed",
		"a linger0 | set closed",
		"a none | set closed",
		"a close | close closed",
	},
	"empty reads and writes": {
		"a read 0 | 0",
		"a write 0 | 0",
		"a writev 0 | 0",
		"a sendfile 0 | 0",
		"b write 3 | 3",
		"b close | ok",
		"a write 1 | 1", // answered with a reset
		"a read 0 | 0",
		"a write 0 | 0 write EPIPE",
		"a read 100 | 3",
		"a read 0 | 0",
		"a read 100 | 0 EOF",
	},
	"a read is ended": {
		"a start read 100 | ok",
		"a close | ok",
		"a result | 0 read closed",
		"b start read 100 | ok",
		"b result | 0 EOF",
	},
	"a read is ended by bytes, a deadline, and an end": {
		"a start read 100 | ok",
		"b write 5 | 5",
		"a result | 5",
		"a start read 100 | ok",
		"a past read | ok",
		"a result | 0 read timeout",
		"a none | ok",
		"a start read 100 | ok",
		"b closewrite | ok",
		"a result | 0 EOF",
	},
	"a read is ended by a reset": {
		"a start read 100 | ok",
		"b linger0 | ok",
		"b close | ok",
		"a result | 0 read ECONNRESET",
	},
	"a write is ended by close": {
		"a start flood | ok",
		"b read 1 | 1",
		"a close | ok",
		"a result | part write closed",
		"b readall | all EOF",
	},
	"a write is ended by half-close": {
		"a start flood | ok",
		"b read 1 | 1",
		"a closewrite | ok",
		"a result | part write EPIPE",
		"b readall | all EOF",
	},
	"a write is ended by a reset": {
		"a start flood | ok",
		"b read 1 | 1",
		"b close | ok", // with unread data
		"a result | part write ECONNRESET",
		"a write 1 | 0 write EPIPE",
		"a read 1 | 0 EOF",
	},
	"a write goes on when bytes are read": {
		"a start flood | ok",
		"b drain flood | all",
		"a result | flood",
		"b read 0 | 0",
	},
	"user timeout of a peer that does not read": {
		"a usertimeout | ok",
		"a fill | part write timeout",
		"a read 1 | 0 read ETIMEDOUT",
		"a read 1 | 0 EOF",
		"a write 1 | 0 write EPIPE",
		"b write 1 | 1", // it was not told, but is now
		"b readall | part read ECONNRESET",
		"b read 1 | 0 EOF",
	},
	"user timeout, told to a peer that reads at last": {
		"a usertimeout | ok",
		"a fill | part write timeout",
		"a read 1 | 0 read ETIMEDOUT",
		"b readall | part read ECONNRESET", // since that lets more be sent
	},
	"user timeout of a peer that reads": {
		"a usertimeout | ok",
		"a write 5 | 5",
		"a soon read | ok",
		"a read 1 | 0 read timeout",
		"a write 5 | 5",
		"b read 100 | 10",
	},
}

// socket is a *memnet.Socket, or does with a *net.TCPConn what that does.
type socket interface {
	net.Conn
	CloseWrite() error
	SetLinger(seconds int) error
	SetUserTimeout(d time.Duration) error
	WriteBuffers(v *net.Buffers) (int64, error)
	SendFile(f *os.File, n int64) (int64, error)
}

var _ socket = (*memnet.Socket)(nil)

const (
	bufferSize  = 32 << 10
	floodSize   = 8 << 20 // more than the buffers hold, also where the system doubles them
	soon        = 300 * time.Millisecond
	userTimeout = 2 * soon
)

// player is one of both ends.
type player struct {
	t       *testing.T
	conn    socket
	other   *player
	wrote   int // bytes in all
	got     int
	results chan string // of what was started
}

// stream is what each of both writes.
var stream = sync.OnceValue(func() []byte {
	b := make([]byte, 2*floodSize)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	return b
})

// play runs a script on both ends of a connection. settle waits until nothing moves any more.
func play(t *testing.T, script []string, a, b socket, settle func()) {
	t.Helper()
	stream() // which takes a moment
	ends := map[string]*player{"a": {t: t, conn: a, results: make(chan string, 1)}, "b": {t: t, conn: b, results: make(chan string, 1)}}
	ends["a"].other, ends["b"].other = ends["b"], ends["a"]
	for i, line := range script {
		step, want, ok := strings.Cut(line, " | ")
		require.True(t, ok, line)
		words := strings.Fields(step)
		result := make(chan string, 1)
		go func() { result <- ends[words[0]].do(words[1], words[2:]...) }()
		select {
		case got := <-result:
			require.Equal(t, want, got, "step %d: %s", i+1, step)
		case <-time.After(time.Minute):
			_, _ = a.Close(), b.Close()
			require.FailNow(t, "it hangs", "step %d: %s", i+1, step)
		}
		settle()
	}
}

// do does one step and returns its result.
func (p *player) do(verb string, args ...string) string {
	arg := strings.Join(args, " ")
	size, _ := strconv.Atoi(arg)
	switch verb {
	case "start":
		go func() { p.results <- p.do(args[0], args[1:]...) }()
		return "ok"
	case "result":
		return <-p.results
	case "read":
		return p.read(size)
	case "readall", "drain":
		return p.readAll(verb, arg)
	case "write", "writev", "sendfile":
		return p.write(verb, size)
	case "flood":
		return p.write("write", floodSize)
	case "fill", "fillv", "fillfile":
		require.NoError(p.t, p.conn.SetWriteDeadline(time.Now().Add(soon)))
		defer func() { require.NoError(p.t, p.conn.SetWriteDeadline(time.Time{})) }()
		return p.write(map[string]string{"fill": "write", "fillv": "writev", "fillfile": "sendfile"}[verb], floodSize)
	}
	return p.set(verb, arg)
}

// set does what has no count.
func (p *player) set(verb, arg string) string {
	sets := map[string]func(time.Time) error{
		"read": p.conn.SetReadDeadline, "write": p.conn.SetWriteDeadline, "both": p.conn.SetDeadline,
	}
	var err error
	switch verb {
	case "close":
		err = p.conn.Close()
	case "closewrite":
		err = p.conn.CloseWrite()
	case "linger0":
		err = p.conn.SetLinger(0)
	case "usertimeout":
		err = p.conn.SetUserTimeout(userTimeout)
	case "past":
		err = sets[arg](time.Unix(1, 0))
	case "soon":
		err = sets[arg](time.Now().Add(soon))
	case "none":
		err = p.conn.SetDeadline(time.Time{})
	default:
		return "unknown step"
	}
	if err != nil {
		return kind(err)
	}
	return "ok"
}

// outcome is a count and the kind of an error.
func outcome(n string, err error) string {
	if err == nil {
		return n
	}
	return n + " " + kind(err)
}

// kind is what programs look at of an error: io.EOF, or the operation and the cause.
func kind(err error) string {
	var op *net.OpError
	if err == io.EOF { //nolint:errorlint // bare
		return "EOF"
	}
	if !errors.As(err, &op) {
		return fmt.Sprintf("unknown error %v", err)
	}
	for name, cause := range map[string]error{
		"closed": net.ErrClosed, "timeout": os.ErrDeadlineExceeded, "ECONNRESET": syscall.ECONNRESET, "EPIPE": syscall.EPIPE,
		"ETIMEDOUT": syscall.ETIMEDOUT, "ENOTCONN": syscall.ENOTCONN,
	} {
		if errors.Is(err, cause) {
			if timeout := name == "timeout" || name == "ETIMEDOUT"; timeout != op.Timeout() {
				return fmt.Sprintf("Timeout() of %v", err)
			}
			return op.Op + " " + name
		}
	}
	return fmt.Sprintf("unknown cause %v", err)
}

func (p *player) read(size int) string {
	b := make([]byte, size)
	n, err := p.conn.Read(b)
	if bad := p.take(b[:n]); bad != nil {
		return bad.Error()
	}
	return outcome(strconv.Itoa(n), err)
}

// take checks what was read.
func (p *player) take(b []byte) error {
	if !bytes.Equal(b, stream()[p.got:p.got+len(b)]) {
		return errors.New("other bytes than those that were written")
	}
	p.got += len(b)
	return nil
}

// readAll reads to the end, or as much as the other has written, or will write in a flood.
func (p *player) readAll(verb, arg string) string {
	all := floodSize
	if arg != "flood" {
		all = p.other.wrote
	}
	b := make([]byte, 16<<10)
	for verb == "readall" || p.got < all {
		n, err := p.conn.Read(b)
		if bad := p.take(b[:n]); bad != nil {
			return bad.Error()
		}
		switch {
		case err != nil && p.got == all:
			return outcome("all", err)
		case err != nil:
			return outcome("part", err)
		}
	}
	return "all"
}

func (p *player) write(verb string, size int) string {
	b := stream()[p.wrote : p.wrote+size]
	var n int
	var err error
	switch verb {
	case "write":
		n, err = p.conn.Write(b)
	case "writev":
		n, err = p.writeBuffers(b)
	case "sendfile":
		n, err = p.sendFile(b)
	}
	p.wrote += n
	switch {
	case size == floodSize && n == size:
		return outcome("flood", err)
	case size == floodSize && n > 0:
		return outcome("part", err)
	}
	return outcome(strconv.Itoa(n), err)
}

// writeBuffers writes b in two halves, and an empty piece between them.
func (p *player) writeBuffers(b []byte) (int, error) {
	v := net.Buffers{b[:len(b)/2], nil, b[len(b)/2:]}
	n, err := p.conn.WriteBuffers(&v)
	left := 0
	for _, piece := range v {
		left += len(piece)
	}
	if left != len(b)-int(n) {
		return int(n), fmt.Errorf("%d bytes of %d were written, and %d are left", n, len(b), left)
	}
	return int(n), err
}

// sendFile sends b from the middle of a file.
func (p *player) sendFile(b []byte) (int, error) {
	const head = "head"
	path := filepath.Join(p.t.TempDir(), "file")
	if err := os.WriteFile(path, append([]byte(head), b...), 0o600); err != nil {
		return 0, err
	}
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	if _, err := f.Seek(int64(len(head)), io.SeekStart); err != nil {
		return 0, err
	}
	n, err := p.conn.SendFile(f, int64(len(b)))
	return int(n), err
}

// connectSockets is connect for networks with sockets.
func connectSockets(t *testing.T, n *memnet.Network) (a, b *memnet.Socket) {
	t.Helper()
	client, server := connect(t, n)
	return client.(*memnet.Socket), server.(*memnet.Socket)
}

func TestScriptsInMemory(t *testing.T) {
	for name, script := range scripts {
		for _, delay := range []time.Duration{0, time.Millisecond} {
			t.Run(name+" "+delay.String(), func(t *testing.T) {
				bubble.Test(t, func(t *testing.T) {
					n := memnet.New(memnet.WithSockets(bufferSize, bufferSize))
					n.Link("a", "b").SetDelay(delay)
					n.Link("b", "a").SetDelay(delay)
					a, b := connectSockets(t, n)
					play(t, script, a, b, func() {
						time.Sleep(4 * delay)
						synctest.Wait()
					})
				})
			})
		}
	}
}
