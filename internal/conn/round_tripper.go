package conn

import (
	"net/http"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
)

// NewRoundTripper returns a round tripper that dials by tlsInfo, for http, https, unix and unixs URLs. Its connections are
// closed after timeout without progress; at most maxIdle idle ones are kept, and heads of answers are at most maxHead bytes.
func NewRoundTripper(tlsInfo transport.TLSInfo, dialTimeout, timeout time.Duration, maxIdle int, maxHead int64) (http.RoundTripper, error) {
	files, err := NewFiles(&tlsInfo, tlsInfo.Logger)
	if err != nil {
		return nil, err
	}
	cfg, err := files.Client(tlsInfo)
	if err != nil {
		return nil, err
	}
	d, err := NewNetDialer(tlsInfo.LocalAddr, dialTimeout, timeout)
	if err != nil {
		return nil, err
	}
	dialer := &Dialer{Dial: d.DialContext, TLS: cfg, Files: files, Timeout: dialTimeout}
	return Schemes{Transport: dialer.NewHTTPTransport(timeout, maxIdle, maxHead)}, nil
}
