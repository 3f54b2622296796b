package memnet_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
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
	soon        = 500 * time.Millisecond
	userTimeout = 2 * soon
)

// player is one of both ends.
type player struct {
	t       *testing.T
	dir     string // of files
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
	ends := map[string]*player{
		"a": {t: t, dir: t.TempDir(), conn: a, results: make(chan string, 1)},
		"b": {t: t, dir: t.TempDir(), conn: b, results: make(chan string, 1)},
	}
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
		return p.write(verb, size, 0)
	case "flood":
		return p.write("write", floodSize, 0)
	case "fill", "fillv", "fillfile":
		return p.write(map[string]string{"fill": "write", "fillv": "writev", "fillfile": "sendfile"}[verb], floodSize, soon)
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

// write writes so many bytes, with a deadline unless that is 0.
func (p *player) write(verb string, size int, deadline time.Duration) string {
	b := stream()[p.wrote : p.wrote+size]
	var f *os.File
	if verb == "sendfile" {
		f = p.file(b)
		defer f.Close()
	}
	if deadline > 0 {
		_ = p.conn.SetWriteDeadline(time.Now().Add(deadline))
		defer func() { _ = p.conn.SetWriteDeadline(time.Time{}) }()
	}
	var n int
	var err error
	switch verb {
	case "write":
		n, err = p.conn.Write(b)
	case "writev":
		n, err = p.writeBuffers(b)
	case "sendfile":
		var sent int64
		sent, err = p.conn.SendFile(f, int64(size))
		n = int(sent)
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

// file returns a file of which b is what comes next.
func (p *player) file(b []byte) *os.File {
	const head = "head"
	f, err := os.CreateTemp(p.dir, "")
	if err == nil {
		_, err = f.Write(append([]byte(head), b...))
	}
	if err == nil {
		_, err = f.Seek(int64(len(head)), io.SeekStart)
	}
	if err != nil {
		p.t.Error(err)
	}
	return f
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
