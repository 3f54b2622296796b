//go:build linux

package faults_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/memnet/faultproxy"
)

// addressFaults are those of addresses: nobody is there, or somebody else.
var addressFaults = []fault{
	{"a host that nobody knows", []string{"no such host"}, func(s *scene) { nameServer(s, 3) }},
	{"a name server that fails", []string{"server misbehaving"}, func(s *scene) { nameServer(s, 2) }},
	{"no member at the address", []string{"connection refused"}, func(s *scene) {
		s.member(1, nil).AddPeer(2, []string{"http://" + unused(s)})
	}},
	{"a firewall that lets only the other one dial", []string{"no connection within the dial timeout"}, func(s *scene) {
		two := s.member(2, nil)
		one := s.member(1, nil)
		one.AddPeer(2, []string{"http://" + blackHole(s)})
		two.AddPeer(1, []string{one.url})
		in := func(st rafthttp.StreamStatus) bool { return st.Direction == "in" && st.Up }
		s.eventually(func() bool { return slices.ContainsFunc(statusOf(two.Transport, 1).Streams, in) })
	}},
	{"an address that is not of this machine to dial from", []string{"cannot assign requested address"}, func(s *scene) {
		s.member(1, func(tr *rafthttp.Transport) { tr.TLSInfo.LocalAddr = "192.0.2.1" }).AddPeer(2, []string{"http://" + unused(s)})
	}},
	{"an address to dial from that is none", []string{"Transport.TLSInfo.LocalAddr is …: want an IP address"}, func(s *scene) {
		m := s.transport(1)
		m.TLSInfo.LocalAddr = "10.0.0.1:2380"
		err := m.Start()
		require.Error(s, err)
		s.output.WriteString(err.Error())
	}},
	{"the URL of another member", []string{"to field mismatch"}, func(s *scene) {
		one, two := s.member(1, nil), s.member(2, nil)
		two.AddPeer(1, []string{one.url})
		one.AddPeer(3, []string{two.url})
	}},
	{"a reason that changes", []string{"member not found: …"}, func(s *scene) {
		one, address := s.member(1, nil), unused(s)
		one.AddPeer(2, []string{"http://" + address})
		s.waitFor("failed to dial … connection refused")
		s.serveAt(address, http.NotFoundHandler())
		s.waitFor("failed to dial … member not found: 404 page not found")
		one.UpdatePeer(2, []string{"http://" + s.serve(http.NotFoundHandler())})
	}},
	{"another web server", []string{"member not found: …"}, func(s *scene) {
		s.member(1, nil).AddPeer(2, []string{"http://" + s.serve(http.NotFoundHandler())})
	}},
	{"a server that is no web server", []string{"malformed HTTP response"}, func(s *scene) {
		address := s.listen(func(c net.Conn) {
			_, _ = io.WriteString(c, "SSH-2.0-server\r\n")
			_, _ = io.Copy(io.Discard, c)
		})
		s.member(1, nil).AddPeer(2, []string{"http://" + address})
	}},
}

// nameServer has a member look up a host at a name server on loopback, which answers everything with one code.
func nameServer(s *scene, code byte) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(s, err)
	s.Cleanup(func() { pc.Close() })
	go func() {
		for b := make([]byte, 4096); ; {
			n, from, err := pc.ReadFrom(b)
			if err != nil {
				return
			}
			b[2], b[3] = b[2]|0x80, b[3]&0xf0|code // an answer
			_, _ = pc.WriteTo(b[:n], from)
		}
	}()
	r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", pc.LocalAddr().String())
	}}
	one := s.member(1, func(tr *rafthttp.Transport) { tr.DialContext = (&net.Dialer{Resolver: r}).DialContext })
	one.AddPeer(2, []string{"http://member-2.invalid:2380"})
}

// unused returns an address of loopback at which nobody listens.
func unused(s *scene) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(s, err)
	defer ln.Close()
	return ln.Addr().String()
}

// blackHole returns an address that answers to no attempt to connect: the listener's backlog is full.
func blackHole(s *scene) string {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	require.NoError(s, err)
	s.Cleanup(func() { _ = syscall.Close(fd) })
	require.NoError(s, syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	require.NoError(s, syscall.Listen(fd, 0))
	name, err := syscall.Getsockname(fd)
	require.NoError(s, err)
	address := (&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: name.(*syscall.SockaddrInet4).Port}).String()
	for {
		c, err := net.DialTimeout("tcp", address, 100*time.Millisecond)
		if err != nil {
			return address
		}
		s.Cleanup(func() { c.Close() })
	}
}

// linkFaults are those of connections.
var linkFaults = []fault{
	{"connections that are reset", []string{"connection reset by peer"}, func(s *scene) {
		one, two := s.member(1, nil), s.member(2, nil)
		p := proxyTo(s, two)
		one.AddPeer(2, []string{"http://" + p.Addr()})
		two.AddPeer(1, []string{one.url})
		s.waitActive(one, 2)
		p.Reset()
	}},
	{"a write to a connection that the other end closed", []string{"broken pipe"}, func(s *scene) {
		// A wrapped response cannot be hijacked, so that only a write finds out.
		one := s.behind(1, nil, func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(flushOnly{w}, r) })
		})
		two := s.member(2, nil)
		one.AddPeer(2, []string{two.url})
		two.AddPeer(1, []string{one.url})
		s.waitActive(one, 2)
		two.RemovePeer(1)
	}},
	{"a network that swallows large packets", []string{"no progress within the read timeout"}, func(s *scene) {
		one, two := s.member(1, nil), s.member(2, nil)
		one.AddPeer(2, []string{two.url})
		two.AddPeer(1, []string{"http://" + swallowing(s, one, 1400)})
		s.waitActive(two, 1)
		s.keepSending(one, 2, 64<<10)
	}},
	{"a network that swallows the certificate", []string{"no connection within the dial timeout: TLS handshake"}, func(s *scene) {
		ca := newAuthority(s)
		one := s.member(1, ca.member(1, nil))
		s.member(2, ca.member(2, nil)).AddPeer(1, []string{"https://" + swallowing(s, one, 500)})
	}},
	{"a peer that is removed while it is dialled", []string{"the client ended the handshake"}, func(s *scene) {
		ca := newAuthority(s)
		one, two := s.member(1, ca.member(1, nil)), s.member(2, func(tr *rafthttp.Transport) {
			ca.member(2, nil)(tr)
			tr.DialTimeout = patience // it does not give up by itself
		})
		two.AddPeer(1, []string{"https://" + swallowing(s, one, 500, func() { two.RemovePeer(1) })})
	}},
	{"messages over our own limit", []string{"message exceeds the size limit"}, func(s *scene) {
		one, _ := s.connected(func(tr *rafthttp.Transport) { tr.MaxMessageBytes = 1000 })
		one.Send([]*raftpb.Message{appendOf(1, 2, 1, 2000)})
		s.waitFor("dropping messages")
	}},
	{"messages over the limit of the receiver", []string{"message exceeds the size limit"}, func(s *scene) {
		one, _ := s.connected(func(tr *rafthttp.Transport) {
			if tr.ID == 2 {
				tr.MaxMessageBytes = 1000
			}
		})
		one.Send([]*raftpb.Message{appendOf(1, 2, 1, 2000)})
		s.waitFor("a stream of the peer ended")
	}},
}

func proxyTo(s *scene, m *player) *faultproxy.Proxy {
	u, err := url.Parse(m.url)
	require.NoError(s, err)
	p, err := faultproxy.Listen("127.0.0.1:0", u.Host)
	require.NoError(s, err)
	s.Cleanup(func() { require.NoError(s, p.Close()) })
	return p
}

// flushOnly is a response that a middleware has wrapped.
type flushOnly struct{ http.ResponseWriter }

func (f flushOnly) FlushError() error { return http.NewResponseController(f.ResponseWriter).Flush() }

func (f flushOnly) SetWriteDeadline(t time.Time) error {
	return http.NewResponseController(f.ResponseWriter).SetWriteDeadline(t)
}

func (f flushOnly) SetReadDeadline(t time.Time) error {
	return http.NewResponseController(f.ResponseWriter).SetReadDeadline(t)
}

// swallowing returns the address of a path to a member that carries no packet of a member's larger than mtu: once there was one,
// nothing follows it, as TCP sends it again and again, and then is called.
func swallowing(s *scene, to *player, mtu int, then ...func()) string {
	u, err := url.Parse(to.url)
	require.NoError(s, err)
	return s.listen(func(client net.Conn) {
		member, err := net.Dial("tcp", u.Host)
		if err != nil {
			return
		}
		defer member.Close()
		go func() {
			_, _ = io.Copy(member, client)
			member.Close()
		}()
		for b := make([]byte, 64<<10); ; {
			n, err := member.Read(b)
			if err != nil {
				return
			}
			if n > mtu {
				for _, f := range then {
					f()
				}
				_, _ = io.Copy(io.Discard, member)
				return
			}
			if _, err := client.Write(b[:n]); err != nil {
				return
			}
		}
	})
}

// proxyFaults are those of HTTP proxies between members.
var proxyFaults = []fault{
	{"a proxy that buffers answers", []string{"the stream brought nothing, not even a link heartbeat"}, func(s *scene) {
		throughProxy(s, func(w http.ResponseWriter, answer *http.Response) {
			w.WriteHeader(answer.StatusCode)
			_ = http.NewResponseController(w).Flush()
			_, _ = io.Copy(w, bufferAll(answer.Body))
		})
	}},
	{"a proxy that buffers answers with their heads", []string{"no answer to the request for a stream"}, func(s *scene) {
		throughProxy(s, func(w http.ResponseWriter, answer *http.Response) { _, _ = io.Copy(w, bufferAll(answer.Body)) })
	}},
	{"a proxy that does not reach the member", []string{"unexpected http status 502"}, func(s *scene) {
		proxyAnswers(s, http.StatusBadGateway)
	}},
	{"a proxy that forbids", []string{"unexpected http status 403"}, func(s *scene) {
		proxyAnswers(s, http.StatusForbidden)
	}},
}

// proxyAnswers has member 1 dial a proxy that answers by itself.
func proxyAnswers(s *scene, code int) {
	address := s.serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, http.StatusText(code), code) }))
	s.member(1, nil).AddPeer(2, []string{"http://" + address})
}

// bufferAll reads r to its end before anything of it is read.
func bufferAll(r io.Reader) io.Reader {
	all, err := io.ReadAll(r)
	return io.MultiReader(bytes.NewReader(all), errReader{err})
}

type errReader struct{ error }

func (e errReader) Read([]byte) (int, error) { return 0, errors.Join(e.error, io.EOF) }

// throughProxy has member 1 reach member 2 by a proxy that passes requests on, and answers as pass does.
func throughProxy(s *scene, pass func(http.ResponseWriter, *http.Response)) {
	one, two := s.member(1, nil), s.member(2, nil)
	proxy := s.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out := r.Clone(r.Context())
		out.RequestURI = ""
		out.URL.Scheme, out.URL.Host = "http", strings.TrimPrefix(two.url, "http://")
		answer, err := http.DefaultTransport.RoundTrip(out)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer answer.Body.Close()
		for name, values := range answer.Header {
			w.Header()[name] = values
		}
		pass(w, answer)
	}))
	two.AddPeer(1, []string{one.url})
	one.AddPeer(2, []string{"http://" + proxy})
}
