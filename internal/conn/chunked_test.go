package conn_test

import (
	"bufio"
	"bytes"
	cryptorand "crypto/rand"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http/httputil"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/internal/conn"
)

// TestChunkedReader: it takes and refuses what that of net/http does, however it comes.
func TestChunkedReader(t *testing.T) {
	bodies := []string{
		"", "0\r\n", "0\r\n\r\n", "5\r\nhello\r\n", "5\r\nhello\r\n0\r\n\r\n", "5\r\nhello", "5\r\nhello\r", "5\r\nhelloXX", "5\r\nhello\n0\r\n",
		"5\nhello\r\n", "5 \t\r\nhello\r\n0\r\n", "5;a=b\r\nhello\r\n0;c\r\n", "5 ;a\r\nhello\r\n", "A\r\n0123456789\r\n0\r\n", "\r\n", "x\r\n", "+5\r\nhello\r\n",
		"0x5\r\nhello\r\n", "-5\r\nhello\r\n", "5_\r\nhello\r\n", "fffffffffffffffff\r\n", "ffffffffffffffff\r\nxx", "5",
		"5\r\r\nhello\r\n", "5;a\rb\r\nhello\r\n0\r\n", "5;\r\r\nhello\r\n0\r\n", "5\r\nhello\r\n0;\ra\r\n",
		strings.Repeat("0", 15) + "5\r\nhello\r\n0\r\n", strings.Repeat("0", 16) + "5\r\nhello\r\n0\r\n", strings.Repeat("0", 17) + "\r\n",
		"5;" + strings.Repeat("a", 4000) + "\r\nhello\r\n0\r\n", "5;" + strings.Repeat("a", 5000) + "\r\nhello\r\n0\r\n",
		strings.Repeat("1\r\nx\r\n", 5000) + "0\r\n", strings.Repeat("1;some extension\r\nx\r\n", 1000) + "0\r\n", strings.Repeat("1;a long long long extension\r\nx\r\n", 5000) + "0\r\n",
	}
	for range 50 {
		var b strings.Builder
		for range rand.N(20) {
			data := make([]byte, 1+rand.N(5000))
			_, _ = cryptorand.Read(data)
			fmt.Fprintf(&b, "%x\r\n%s\r\n", len(data), data)
		}
		bodies = append(bodies, b.String(), b.String()+"0\r\n\r\n", b.String()[:rand.N(b.Len()+1)])
	}
	parts := []string{"0", "5", "\r\n", "\r\n", "\r", "\n", ";", "a", " ", "hello"}
	for range 1000 {
		var b strings.Builder
		for range rand.N(12) {
			b.WriteString(parts[rand.N(len(parts))])
		}
		bodies = append(bodies, b.String())
	}
	ways := map[string]func(io.Reader) io.Reader{
		"at once": func(r io.Reader) io.Reader { return r }, "a byte at a time": iotest.OneByteReader, "in halves": iotest.HalfReader,
		"with the error": iotest.DataErrReader,
	}
	for _, body := range bodies {
		want, refused := io.ReadAll(httputil.NewChunkedReader(strings.NewReader(body)))
		for way, f := range ways {
			got, err := io.ReadAll(conn.NewChunkedReader(bufio.NewReaderSize(f(strings.NewReader(body)), 32<<10)))
			require.Equal(t, refused == nil, err == nil, "%s: %.40q: %v, %v", way, body, err, refused)
			require.True(t, bytes.Equal(want, got), "%s: %.40q: %.40q, %.40q", way, body, got, want)
		}
	}
}
