package rafthttp

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"time"
)

// lingering is how long a connection that was taken over is kept for the sender
// to read why the rest of its snapshot is not wanted.
const lingering = 500 * time.Millisecond

// takenResponse is the response of a request whose connection was taken over from
// the server. It is sent by finish.
type takenResponse struct {
	conn   net.Conn
	header http.Header
	body   *rawBody // of the request

	code int // 0: there is no answer
	text bytes.Buffer
}

// Header implements http.ResponseWriter.
func (w *takenResponse) Header() http.Header { return w.header }

// WriteHeader implements http.ResponseWriter.
func (w *takenResponse) WriteHeader(code int) {
	if w.code == 0 && code >= http.StatusOK {
		w.code = code
	}
}

// Write implements http.ResponseWriter. The other side reads no more than
// maxAnswerBytes.
func (w *takenResponse) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	if w.text.Len()+len(p) > maxAnswerBytes {
		return 0, io.ErrShortWrite
	}
	return w.text.Write(p)
}

// finish sends the answer of a connection that was taken over, and closes it.
func (q *request) finish() {
	w := q.taken
	if w == nil {
		return
	}
	defer w.conn.Close()
	if w.code == 0 || w.send(q.writeTimeout) != nil || w.body.left == 0 {
		return
	}
	// To close with bytes unread would reset the connection, and the answer might
	// be lost with it.
	half, ok := w.conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	_ = w.conn.SetReadDeadline(time.Now().Add(lingering))
	_, _ = io.Copy(io.Discard, struct{ io.Reader }{w.conn})
}

func (w *takenResponse) send(timeout time.Duration) error {
	if err := w.conn.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	w.header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	w.header.Del("Connection")
	resp := &http.Response{
		StatusCode: w.code, ProtoMajor: 1, ProtoMinor: 1, Header: w.header, Close: true,
		Body: io.NopCloser(&w.text), ContentLength: int64(w.text.Len()),
	}
	return resp.Write(w.conn)
}
