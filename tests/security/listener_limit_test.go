package security_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/internal/testtls"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// So many strangers at once are refused; those of a moment later are not.
func TestListenerBoundsHandshakes(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		ca := testtls.NewAuthority(t) // of the bubble's time
		const most = 256
		const each = 32
		n := testmember.NewNetwork()
		greets(t, tlsListener(t, n, ca.Member(t, 1), nil))
		var all []net.Conn
		from := func(host string) net.Conn {
			c, err := n.Host(host).DialContext(t.Context(), "tcp", "server:443")
			require.NoError(t, err)
			t.Cleanup(func() { c.Close() })
			return c
		}
		for range each {
			all = append(all, from("a"))
		}
		synctest.Wait()
		require.Zero(t, closedAfter(from("a")), "too many from one address")
		other := tls.Client(dialServer(t, n), clientOf(t, ca, "client", &x509.Certificate{}))
		_, err := io.ReadFull(other, make([]byte, 2))
		require.NoError(t, err, "which locks nobody else out")
		synctest.Wait() // until its handshake is no longer counted
		for i := range most - each {
			all = append(all, from(fmt.Sprint("b", i/each)))
		}
		synctest.Wait()
		require.Zero(t, closedAfter(dialServer(t, n)), "too many in all")
		require.Equal(t, 5*time.Second, closedAfter(all[most-1]))
		cfg := clientOf(t, ca, "client", &x509.Certificate{})
		_, err = io.ReadFull(tls.Client(dialServer(t, n), cfg), make([]byte, 2))
		require.NoError(t, err)
	})
}

// TestListenerBoundsConnections: those that are not streams are bounded for each
// address and in all; a stream is not counted, and what is closed makes room.
func TestListenerBoundsConnections(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		const each, most = 256, 2048
		ln, err := n.Host(testmember.HostOf(1)).Listen("2380")
		require.NoError(t, err)
		a := testmember.StartOn(t, testmember.NewDeadlineListener(ln, testmember.ReadTimeout, testmember.WriteTimeout), 1, func(tr *rafthttp.Transport) {
			tr.DialContext = n.Host(testmember.HostOf(1)).DialContext
		})
		a.AddPeer(2, testmember.SilentHost(n, 2))
		dial := func(host string) net.Conn {
			c, err := n.Host(host).DialContext(t.Context(), "tcp", "m1:2380")
			require.NoError(t, err)
			t.Cleanup(func() { c.Close() })
			return c
		}
		for range 10 {
			testmember.DialStream(t, n.Host("x").DialContext, a, "message", 2)
		}
		stream := testmember.DialStream(t, n.Host("x").DialContext, a, "msgapp", 2)
		for range each {
			dial("x")
		}
		synctest.Wait()
		require.Zero(t, closedAfter(dial("x")))
		for i := range most - each {
			dial(fmt.Sprint("y", i/each))
		}
		synctest.Wait()
		require.Zero(t, closedAfter(dial("z")))

		time.Sleep(testmember.ReadTimeout)
		synctest.Wait()
		require.NotZero(t, closedAfter(dial("x")), "the silent ones are gone")
		require.True(t, testmember.LaneOf(a, 2, "msgapp").Up, "the stream is not")
		stream.Close()
	})
}

// TestNewServer: the head of a request is bounded in size and time, and so is the
// time between two.
func TestNewServer(t *testing.T) {
	head := "POST /raft HTTP/1.1\r\nHost: x\r\n"
	tests := []struct {
		name  string
		write func(net.Conn) error
		code  string // of the answer; empty: none
		after time.Duration
	}{
		{"nothing", func(net.Conn) error { return nil }, "", 5 * time.Second},
		{"half a head", func(c net.Conn) error { _, err := io.WriteString(c, head); return err }, "", 5 * time.Second},
		{"a byte a second", func(c net.Conn) error {
			for _, b := range []byte(head + strings.Repeat("x", 100)) {
				if _, err := c.Write([]byte{b}); err != nil {
					return err
				}
				time.Sleep(time.Second)
			}
			return nil
		}, "", 5 * time.Second},
		{"large", func(c net.Conn) error {
			_, err := io.WriteString(c, head+"X-A: "+strings.Repeat("a", 100_000)+"\r\n\r\n")
			return err
		}, "HTTP/1.1 431", 0},
		{"many", func(c net.Conn) error {
			_, err := io.WriteString(c, head+strings.Repeat("A: b\r\n", 20_000)+"\r\n")
			return err
		}, "HTTP/1.1 431", 0},
		{"idle", func(c net.Conn) error {
			_, err := io.WriteString(c, "GET /raft/probing HTTP/1.1\r\nHost: x\r\n\r\n")
			return err
		}, "HTTP/1.1 200", 5 * time.Second},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
				ln, err := n.Host("server").Listen("443")
				require.NoError(t, err)
				tr := &rafthttp.Transport{ID: 1, Raft: &testmember.Recorder{}}
				require.NoError(t, tr.Start())
				defer tr.Stop()
				s := rafthttp.NewServer(tr.Handler())
				served := make(chan error)
				go func() { served <- s.Serve(ln) }()
				c := dialServer(t, n)
				start := time.Now()
				wrote := make(chan struct{})
				go func() { defer close(wrote); _ = tc.write(c) }()
				answer, _ := io.ReadAll(c)
				took := time.Since(start)
				c.Close()
				<-wrote
				time.Sleep(time.Second) // a server lingers for a moment
				require.NoError(t, s.Close())
				require.ErrorIs(t, <-served, http.ErrServerClosed)
				require.Equal(t, tc.code, string(answer[:min(len(answer), len(tc.code))]))
				if tc.after == 0 {
					require.LessOrEqual(t, took, time.Second, "at once, or after the server has lingered")
				} else {
					require.Equal(t, tc.after, took)
				}
			})
		})
	}
}

// TestListenConfig: each limit holds, and is checked.
func TestListenConfig(t *testing.T) {
	u := url.URL{Scheme: "http", Host: "127.0.0.1:0"}
	for field, c := range map[string]rafthttp.ListenConfig{
		"MaxConns": {MaxConns: -1}, "MaxConnsPerAddress": {MaxConnsPerAddress: -1},
		"MaxHandshakes": {MaxHandshakes: -1}, "MaxHandshakesPerAddress": {MaxHandshakesPerAddress: -1},
	} {
		_, err := c.Listen(u, nil)
		require.EqualError(t, err, "rafthttp: ListenConfig."+field+" is -1: want 0 for the default, or a positive value")
	}
	ca := testtls.NewAuthority(t)
	for name, tt := range map[string]struct {
		c      rafthttp.ListenConfig
		scheme string
	}{
		"connections":                {rafthttp.ListenConfig{MaxConns: 2}, "http"},
		"connections of an address":  {rafthttp.ListenConfig{MaxConnsPerAddress: 2}, "http"},
		"handshakes":                 {rafthttp.ListenConfig{MaxHandshakes: 2}, "https"},
		"handshakes from an address": {rafthttp.ListenConfig{MaxHandshakesPerAddress: 2}, "https"},
	} {
		t.Run(name, func(t *testing.T) {
			info := ca.Member(t, 1)
			u.Scheme = tt.scheme
			ln, err := tt.c.Listen(u, &info)
			require.NoError(t, err)
			accepting := make(chan struct{})
			go func() {
				defer close(accepting)
				for {
					c, err := ln.Accept()
					if err != nil {
						return
					}
					defer c.Close()
				}
			}()
			defer func() {
				ln.Close()
				<-accepting
			}()
			var conns [3]net.Conn
			for i := range conns {
				conns[i], err = net.Dial("tcp", ln.Addr().String())
				require.NoError(t, err)
				defer conns[i].Close()
			}
			_, err = conns[2].Read(make([]byte, 1))
			require.ErrorIs(t, err, io.EOF)
			for _, c := range conns[:2] {
				require.NoError(t, c.SetReadDeadline(time.Now().Add(time.Millisecond)))
				_, err = c.Read(make([]byte, 1))
				require.ErrorIs(t, err, os.ErrDeadlineExceeded, "it is open")
			}
		})
	}
}
