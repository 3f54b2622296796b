package snapshot

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/seed-4d73690b/rafthttp/internal/closeconn"
	"github.com/seed-4d73690b/rafthttp/internal/protocol"
)

// lingering is how long a connection that was taken over is kept, so that the sender can read why the rest of its
// snapshot is not wanted.
const lingering = 500 * time.Millisecond

// Response is the response to a request whose connection was taken over from the server. It is sent by Finish.
type Response struct {
	conn   net.Conn
	header http.Header
	body   *rawBody // of the request

	code int // 0: no answer
	text bytes.Buffer
}

// Header implements http.ResponseWriter.
func (w *Response) Header() http.Header {
	if w.header == nil {
		w.header = http.Header{}
	}
	return w.header
}

// WriteHeader implements http.ResponseWriter.
func (w *Response) WriteHeader(code int) {
	if w.code == 0 && code >= http.StatusOK {
		w.code = code
	}
}

// Write implements http.ResponseWriter. The other side reads at most protocol.MaxAnswerBytes.
func (w *Response) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	if w.text.Len()+len(p) > protocol.MaxAnswerBytes {
		return 0, io.ErrShortWrite
	}
	return w.text.Write(p)
}

// Finish sends the answer within the timeout, and closes the connection.
func (w *Response) Finish(timeout time.Duration) {
	defer closeconn.Close(w.conn)
	if w.code == 0 || w.send(timeout) != nil || w.body.remaining == 0 {
		return
	}
	// Closing with unread bytes would reset the connection, and the answer might be lost with it.
	half, ok := w.conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	_ = w.conn.SetReadDeadline(time.Now().Add(lingering))
	_, _ = io.Copy(io.Discard, struct{ io.Reader }{w.conn})
}

func (w *Response) send(timeout time.Duration) error {
	if err := w.conn.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	h := w.Header()
	h.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	h.Del("Connection")
	resp := &http.Response{
		StatusCode: w.code, ProtoMajor: 1, ProtoMinor: 1, Header: h, Close: true,
		Body: io.NopCloser(&w.text), ContentLength: int64(w.text.Len()),
	}
	return resp.Write(w.conn)
}
