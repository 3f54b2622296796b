package testmember

import (
	"context"
	"crypto/tls"
	"net"
	"net/url"
	"sync"
	"time"

	"github.com/seed-4d73690b/rafthttp/internal/conn"
)

// NewDeadlineListener does what rafthttp.NewListener does to a plain listener, with timeouts of the test's choice.
func NewDeadlineListener(l net.Listener, read, write time.Duration) net.Listener {
	return conn.NewDeadlineListener(l, read, write, conn.DefaultListenLimits)
}

// WrappingListener changes the connections that it accepts.
type WrappingListener struct {
	net.Listener
	Wrap func(net.Conn) net.Conn
}

// Accept returns what Wrap makes of a connection.
func (l WrappingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.Wrap(c), nil
}

// KeptConn returns a connection that is validated again while it is up, and the function that cuts it.
func KeptConn(c net.Conn) (kept net.Conn, cut func(cause error)) {
	d := &conn.Dialer{
		Dial:    func(context.Context, string, string) (net.Conn, error) { return c, nil },
		Timeout: time.Minute, Verify: func(string, *tls.ConnectionState, time.Time) error { return nil },
	}
	kept, err := d.Connect(context.Background(), url.URL{Scheme: "http"})
	if err != nil {
		panic(err)
	}
	return kept, kept.(*conn.Dialed).Cut
}

// Dials keeps the times and addresses of a member's dials. Streams are dialled as POSTs are; tests that count send nothing.
type Dials struct {
	Mu    sync.Mutex
	at    []time.Time
	addrs []string
}

// Count returns dial, counted.
func (d *Dials) Count(dial DialFunc) DialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		d.Mu.Lock()
		d.at, d.addrs = append(d.at, time.Now()), append(d.addrs, addr)
		d.Mu.Unlock()
		return dial(ctx, network, addr)
	}
}

// To returns how many dials there were to an address.
func (d *Dials) To(addr string) (n int) {
	d.Mu.Lock()
	defer d.Mu.Unlock()
	for _, a := range d.addrs {
		if a == addr {
			n++
		}
	}
	return n
}

// DialFunc is a DialContext.
type DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error)

// DialLoopback dials a real connection.
func DialLoopback(ctx context.Context, network, addr string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, network, addr)
}
