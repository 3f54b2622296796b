package conn

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
)

// NewGet returns a GET request for a path at a peer URL.
func NewGet(u url.URL, path string, header http.Header) (*http.Request, error) {
	target, err := RequestURL(u, path)
	if err != nil {
		return nil, err
	}
	return &http.Request{Method: http.MethodGet, URL: target, Host: target.Host, Header: header}, nil
}

// Answer is the answer to a request on a separate connection: closing the connection releases everything.
type Answer struct {
	*http.Response
	buffer *bufio.Reader // of the connection
}

// ReadAnswer reads the head of the answer to a request that was written to c. The head, and the bytes read from
// Answer.Body, may have most bytes together. It blocks for as long as a Read of c does.
func ReadAnswer(c net.Conn, req *http.Request, most int64) (*Answer, error) {
	limit := &io.LimitedReader{R: c, N: most}
	br := bufio.NewReader(limit)
	resp, err := http.ReadResponse(br, req)
	if err != nil {
		if limit.N <= 0 {
			return nil, fmt.Errorf("head of the answer is over %d bytes", most)
		}
		return nil, err
	}
	return &Answer{resp, br}, nil
}

// Stream returns the body of the answer, of any length, to be read from in, which reads the connection. A plain body
// has no buffer; a chunked one has a buffer of chunkBuffer bytes. Bytes already read from the connection come first.
func (a *Answer) Stream(in *ProgressReader, chunkBuffer int) (io.Reader, error) {
	head, err := a.buffer.Peek(a.buffer.Buffered())
	if err != nil {
		return nil, err
	}
	in.Begin(head)
	switch {
	case len(a.TransferEncoding) > 0:
		return NewChunkedReader(bufio.NewReaderSize(in, chunkBuffer)), nil
	case a.ContentLength >= 0:
		return io.LimitReader(in, a.ContentLength), nil
	default:
		return in, nil
	}
}
