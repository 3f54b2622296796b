// Package listener has the TLS listener of a member: that of package conn, with the log of its failures, and their
// callback.
package listener

import (
	"cmp"
	"crypto/tls"
	"net"
	"sync/atomic"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.uber.org/zap"

	"github.com/seed-4d73690b/rafthttp/internal/callback"
	"github.com/seed-4d73690b/rafthttp/internal/conn"
)

// maxFailedHandshakes limits the failed handshakes that wait for HandshakeFailure.
const maxFailedHandshakes = 64

// Owner is the Transport whose server serves a listener. The zero Owner is none.
type Owner struct {
	Failures *conn.Failures // counts those of the listener
	Log      *zap.Logger    // asynchronous; nil: the Transport does not run
	Guard    callback.Guard // set with Log
}

// TLS is the listener of rafthttp.NewListener for TLS, with its log and its callback. It is safe for concurrent use.
type TLS struct {
	*conn.TLSListener
	hook     *callback.Queue              // of failures, for failed
	failed   func(*tls.Conn, error)       // TLSInfo.HandshakeFailure; nil: none
	own      callback.Guard               // with TLSInfo.Logger
	asyncLog *callback.AsyncLog           // of the same
	log      *zap.Logger                  // asynchronous; nil: none
	owner    atomic.Pointer[func() Owner] // of ServedBy; nil: unknown
	failures conn.Failures                // until owner is known
}

// NewTLS returns a listener over l, which it closes. info, which may be nil, is as for rafthttp.NewListener.
func NewTLS(l net.Listener, info *transport.TLSInfo, limits conn.ListenLimits) (*TLS, error) {
	if info == nil {
		info = new(transport.TLSInfo)
	}
	tl := &TLS{own: callback.Guard{Log: info.Logger}}
	tl.asyncLog = callback.NewAsyncLog(tl.own, callback.TransportLines)
	tl.hook, tl.failed = callback.NewQueue(maxFailedHandshakes), info.HandshakeFailure
	if info.Logger != nil {
		tl.log = tl.asyncLog.Wrap(info.Logger)
	}
	var err error
	tl.TLSListener, err = conn.NewTLSListener(l, info, tl.log, limits, conn.ListenerHooks{
		Refused: tl.refused,
		HandshakeFailed: func(from net.Addr, err error) {
			to, log := tl.failureLog()
			to.Handshake(log, from.String(), err)
		},
		AcceptFailed: func(err error) {
			_, log := tl.failureLog()
			tl.failures.Accept(log, err.Error())
		},
	})
	return tl, err
}

// ServedBy sets the owner of the listener. The function is called for each failure, from several goroutines, since the
// Transports of a Mux are added and removed meanwhile; it must not block.
func (l *TLS) ServedBy(owner func() Owner) { l.owner.Store(&owner) }

func (l *TLS) ownerNow() Owner {
	if f := l.owner.Load(); f != nil {
		return (*f)()
	}
	return Owner{}
}

// failureLog returns the counter of failures, and the log for them, which may be nil.
func (l *TLS) failureLog() (*conn.Failures, *zap.Logger) {
	o := l.ownerNow()
	if o.Failures == nil {
		return &l.failures, l.log
	}
	return o.Failures, cmp.Or(l.log, o.Log)
}

// Close implements net.Listener. It ends handshakes in progress, and waits for
// HandshakeFailure and the log.
func (l *TLS) Close() error {
	err := l.TLSListener.Close()
	l.hook.Close()
	l.asyncLog.Close()
	return err
}

// refused calls HandshakeFailure asynchronously, so that a slow one does not delay other
// handshakes.
func (l *TLS) refused(c *tls.Conn, err error) {
	if l.failed == nil {
		return
	}
	l.hook.Add(func() {
		defer l.guard().Recover(callback.Call{Name: "TLSInfo.HandshakeFailure"})
		l.failed(c, err)
	})
}

// guard returns the guard for callbacks of the listener, with the log of its
// handshakes.
func (l *TLS) guard() callback.Guard {
	if l.log != nil {
		return l.own
	}
	if o := l.ownerNow(); o.Log != nil {
		return o.Guard
	}
	return callback.Guard{Log: zap.NewNop()}
}
