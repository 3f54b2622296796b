package interop_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"regexp"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/compat/v36/drive"
)

// tap is a proxy in front of a member that keeps the bytes of all connections, without TLS.
type tap struct {
	ln  net.Listener
	url string
	tls *tls.Config // nil: plain

	mu     sync.Mutex
	target string
	conns  []*tapped
}

// tapped is one connection.
type tapped struct {
	mu       sync.Mutex
	sent     []byte // by the client
	answered []byte
}

func newTap(t *testing.T, files *drive.TLS) *tap {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &tap{ln: ln, url: "http://" + ln.Addr().String()}
	if files != nil {
		cert, err := tls.LoadX509KeyPair(files.Cert, files.Key)
		require.NoError(t, err)
		p.tls = &tls.Config{Certificates: []tls.Certificate{cert}, InsecureSkipVerify: true}
		p.ln, p.url = tls.NewListener(ln, p.tls), "https://"+ln.Addr().String()
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := p.ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { p.serve(c) })
		}
	})
	t.Cleanup(func() { ln.Close() })
	return p
}

// lead makes the tap lead to a member from now on.
func (p *tap) lead(t *testing.T, to *end) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = hostOf(t, to.URL())
}

func (p *tap) serve(client net.Conn) {
	defer client.Close()
	kept := new(tapped)
	p.mu.Lock()
	target := p.target
	p.conns = append(p.conns, kept)
	p.mu.Unlock()
	server, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	if p.tls != nil {
		server = tls.Client(server, p.tls)
	}
	defer server.Close()
	go func() {
		kept.copy(client, server, &kept.answered)
		client.Close()
	}()
	kept.copy(server, client, &kept.sent)
}

func (c *tapped) copy(to io.Writer, from io.Reader, kept *[]byte) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		c.mu.Lock()
		*kept = append(*kept, buf[:n]...)
		c.mu.Unlock()
		if _, werr := to.Write(buf[:n]); err != nil || werr != nil {
			return
		}
	}
}

// exchange is a request and its answer, as far as they came. The heads are the bytes of them, with addresses and dates replaced.
type exchange struct {
	name               string // method and path, without the id of a member
	request, answer    string
	body, answerBodies []byte
}

// exchanges returns everything so far, by connection.
func (p *tap) exchanges() (all []exchange) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.mu.Lock()
		all = append(all, parse(bytes.Clone(c.sent), bytes.Clone(c.answered))...)
		c.mu.Unlock()
	}
	return all
}

var (
	addresses = regexp.MustCompile(`127\.0\.0\.1:\d+`)
	dates     = regexp.MustCompile(`Date: [^\r]*`)
	streamOf  = regexp.MustCompile(`^(/raft/stream/\w+)/.*`)
)

func parse(sent, answered []byte) (all []exchange) {
	requests, answers := newHeads(sent), newHeads(answered)
	for {
		at := requests.offset()
		req, err := http.ReadRequest(requests.buf)
		if err != nil {
			return all
		}
		x := exchange{name: req.Method + " " + streamOf.ReplaceAllString(req.URL.Path, "$1"), request: headAt(sent, at)}
		x.body, _ = io.ReadAll(req.Body)
		at = answers.offset()
		if resp, err := http.ReadResponse(answers.buf, req); err == nil {
			x.answer = headAt(answered, at)
			x.answerBodies, _ = io.ReadAll(resp.Body)
		}
		all = append(all, x)
	}
}

// heads reads bytes, and knows how many were read.
type heads struct {
	from *bytes.Reader
	buf  *bufio.Reader
}

func newHeads(b []byte) heads {
	r := bytes.NewReader(b)
	return heads{r, bufio.NewReader(r)}
}

func (h heads) offset() int { return int(h.from.Size()) - h.from.Len() - h.buf.Buffered() }

func headAt(b []byte, at int) string {
	head, _, _ := bytes.Cut(b[at:], []byte("\r\n\r\n"))
	return dates.ReplaceAllString(addresses.ReplaceAllString(string(head), "<address>"), "Date: <date>")
}
