package conn

import (
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// socketHost marks the host of a request URL that stands for a Unix socket: its
// path in hexadecimal, then this.
const socketHost = ".unix-socket"

// Schemes maps URLs with a peer URL's scheme to schemes that net/http knows.
type Schemes struct{ *http.Transport }

// RoundTrip implements http.RoundTripper.
func (s Schemes) RoundTrip(r *http.Request) (*http.Response, error) {
	u, err := RequestURL(*r.URL, r.URL.Path)
	if err != nil {
		if r.Body != nil {
			r.Body.Close()
		}
		return nil, err
	}
	u.RawQuery = r.URL.RawQuery
	r = r.Clone(r.Context())
	r.URL = u
	return s.Transport.RoundTrip(r)
}

// RequestURL returns the URL of a request to a peer URL, for net/http.
func RequestURL(base url.URL, path string) (*url.URL, error) {
	switch base.Scheme {
	case "http", "https":
		return &url.URL{Scheme: base.Scheme, Host: base.Host, Path: path}, nil
	case "unix", "unixs":
		if base.Path == path {
			base.Path = "" // the path of a request, not of the socket
		}
		host := hex.EncodeToString([]byte(SocketPath(base))) + socketHost
		return &url.URL{Scheme: strings.Replace(base.Scheme, "unix", "http", 1), Host: host, Path: path}, nil
	}
	return nil, fmt.Errorf("unknown scheme in peer URL %s", base.String())
}

// SocketPath returns the file of a Unix socket: unix:///run/a.sock is an
// absolute path, unix://a.sock:0 a file of that name in the working directory,
// as for etcd.
func SocketPath(u url.URL) string { return u.Host + u.Path }

// dialTarget is the inverse of RequestURL for the address that net/http dials.
func dialTarget(addr string) (network, target string) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return "tcp", addr
	}
	if enc, ok := strings.CutSuffix(host, socketHost); ok {
		if path, err := hex.DecodeString(enc); err == nil {
			return "unix", string(path)
		}
	}
	return "tcp", addr
}

// serverName is the name, or the address without its zone, that the certificate of
// addr must contain if TLSInfo names none.
func serverName(network, addr string) string {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr
	}
	if network == "unix" && (host == "" || strings.ContainsRune(host, '/')) {
		return "localhost"
	}
	return WithoutZone(host)
}

// WithoutZone returns an address without its zone, such as eth0 in fe80::1%eth0:
// a zone is the name of an interface on one machine, and in no certificate. A name is
// returned unchanged.
func WithoutZone(host string) string {
	if ip, err := netip.ParseAddr(host); err == nil && ip.Zone() != "" {
		return ip.WithZone("").String()
	}
	return host
}
