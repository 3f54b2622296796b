package conn

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestWhatACutConnectionTells: whatever its user does next with it.
func TestWhatACutConnectionTells(t *testing.T) {
	uses := map[string]func(net.Conn) error{
		"read":           func(c net.Conn) error { _, err := c.Read(make([]byte, 1)); return err },
		"write":          func(c net.Conn) error { _, err := c.Write(make([]byte, 1)); return err },
		"deadline":       func(c net.Conn) error { return c.SetDeadline(time.Now()) },
		"read deadline":  func(c net.Conn) error { return c.SetReadDeadline(time.Now()) },
		"write deadline": func(c net.Conn) error { return c.SetWriteDeadline(time.Now()) },
	}
	for name, use := range uses {
		t.Run(name, func(t *testing.T) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			defer ln.Close()
			raw, err := net.Dial("tcp", ln.Addr().String())
			require.NoError(t, err)
			d := &Dialer{
				Dial:    func(context.Context, string, string) (net.Conn, error) { return raw, nil },
				Timeout: time.Minute, Verify: func(string, *tls.ConnectionState, time.Time) error { return nil },
			}
			c, err := d.Connect(t.Context(), url.URL{Scheme: "http"})
			require.NoError(t, err)
			defer c.Close()
			revoked := errors.New("revoked")
			c.(*Dialed).Cut(revoked)
			require.ErrorIs(t, use(c), revoked)
		})
	}
}
