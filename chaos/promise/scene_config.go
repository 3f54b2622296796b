package promise

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/wire"
)

// playConfig: a timeout that is endless, as one may be tempted to write it.
func playConfig(st *stage) {
	a := st.newActor(1, "a", nil)
	field := []*time.Duration{&a.ReadTimeout, &a.WriteTimeout, &a.DialTimeout, &a.TLSRecheck, &a.SnapshotAnswerTimeout}[st.IntN(5)]
	*field = math.MaxInt64 - time.Duration(st.IntN(2))*time.Hour
	err := a.Start()
	if wrong := (*rafthttp.ConfigError)(nil); !errors.As(err, &wrong) {
		st.wrong("Start takes a timeout of %v: %v", *field, err)
		a.Stop()
	}
}

// playZone: a link-local address, whose certificate has no zone.
func playZone(st *stage) {
	ca := st.authority("authority")
	var requests atomic.Int64
	ln, err := st.net.Host(st.host("b")).Listen("80")
	if err != nil {
		st.wrong("cannot listen: %v", err)
		return
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		http.NotFound(w, r)
	})}
	st.serveOn(tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{ca.pair("b", "fe80::1")}, MinVersion: tls.VersionTLS12}), server)
	a := st.actor(1, "a", func(a *actor) {
		a.TLSInfo = ca.info("a")
		a.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return st.net.Host(st.host("a")).DialContext(ctx, "tcp", st.host("b")+":80")
		}
	})
	a.AddPeer(2, []string{"https://[fe80::1%25eth0]:2380"})
	time.Sleep(3 * time.Second)
	if requests.Load() == 0 {
		st.wrong("nothing comes to a link-local address with TLS")
	}
}

// secured starts a transport whose clients need certificates of the authority.
func (st *stage) secured(ca *authorityOf, set func(*actor)) *actor {
	a := st.newActor(1, "a", func(a *actor) {
		a.TLSInfo = ca.info("a")
		if set != nil {
			set(a)
		}
	})
	ln, err := st.net.Host(st.host("a")).Listen("80")
	if err == nil {
		err = a.Start()
	}
	if err != nil {
		st.wrong("member does not start: %v", err)
		return a
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	st.serveOn(tls.NewListener(ln, &tls.Config{
		Certificates: []tls.Certificate{ca.pair("a", "member")}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12,
	}), rafthttp.NewServer(a.Handler()))
	st.atEnd(a.Stop)
	return a
}

// client connects a client with a certificate.
func (st *stage) client(cert tls.Certificate) *tls.Conn {
	return tls.Client(st.dial(), &tls.Config{Certificates: []tls.Certificate{cert}, InsecureSkipVerify: true})
}

// playHandshake: a client with a certificate of somebody else.
func playHandshake(st *stage) {
	a := st.secured(st.authority("authority"), nil)
	c := st.client(st.authority("another").pair("b", "b"))
	_ = c.SetDeadline(time.Now().Add(readTime))
	if err := c.HandshakeContext(st.ctx); err == nil {
		_, err = c.Read(make([]byte, 1)) // with TLS 1.3 it is told later
		if err == nil {
			st.wrong("a certificate of another authority is taken")
		}
	}
	time.Sleep(time.Second)
	if a.said("a TLS handshake failed; further ones like it are not logged for a while") == 0 {
		st.wrong("a certificate was refused, and the log of who refused it says nothing")
	}
}

// playRevoked: a client whose certificate is revoked, on a connection that was there before.
func playRevoked(st *stage) {
	ca := st.authority("authority")
	list := filepath.Join(ca.dir, "crl.der")
	ca.write("crl.der", ca.revoke())
	recheck := time.Duration(1+st.IntN(5)) * time.Second
	st.secured(ca, func(a *actor) {
		a.TLSInfo.CRLFile, a.TLSRecheck, a.Snapshotter = list, recheck, resumingSaver{}
	})
	cert := ca.pair("b", "b")
	post := wire.AppendMessage(nil, heartbeatFrom(2, 1))
	requests := []string{
		"GET /raft/snapshot/offset HTTP/1.1\r\nHost: member\r\nX-Raft-To: 1\r\nX-Raft-Snapshot-Term: 1\r\nX-Raft-Snapshot-Index: 1\r\n" +
			"X-Raft-Snapshot-Size: x\r\n" + headers(2) + "\r\n", // it is not a number: nobody is asked
		fmt.Sprintf("POST /raft HTTP/1.1\r\nHost: member\r\n%sContent-Length: %d\r\n\r\n%s", headers(2), len(post), post),
	}
	ask := func(c net.Conn, request string) int {
		if _, err := c.Write([]byte(request)); err != nil {
			return -1
		}
		_ = c.SetReadDeadline(time.Now().Add(readTime))
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			return -1
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	var conns []net.Conn
	for i, request := range requests {
		conns = append(conns, st.client(cert))
		if status, want := ask(conns[i], request), []int{http.StatusBadRequest, http.StatusNoContent}[i]; status != want {
			st.wrong("before it is revoked, request %d is answered %d, not %d", i, status, want)
		}
	}
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		st.wrong("certificate: %v", err)
		return
	}
	if err := os.WriteFile(list, ca.revoke(leaf.SerialNumber), 0o600); err != nil {
		st.wrong("revocation list: %v", err)
	}
	time.Sleep(recheck + time.Second)
	for i, request := range requests {
		if status := ask(conns[i], request); status != http.StatusUnauthorized && status != -1 {
			st.wrong("after its certificate was revoked, request %d is answered %d", i, status)
		}
	}
}
