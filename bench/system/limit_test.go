package system_test

import (
	"io"
	"net"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

var kept [8][]byte // as many as raft would still hold

// BenchmarkReceive1MiB is the limit of scenario C: bare TCP, read into the same memory each time, and into fresh memory,
// as a transport must that leaves what it has received to raft.
func BenchmarkReceive1MiB(b *testing.B) {
	const size = 1 << 20
	for _, fresh := range []bool{false, true} {
		name := "reused"
		if fresh {
			name = "fresh"
		}
		b.Run(name, func(b *testing.B) {
			heap := make([]byte, 64<<20) // as in the scenarios
			defer runtime.KeepAlive(heap)
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(b, err)
			defer ln.Close()
			go func() {
				c, err := net.Dial("tcp", ln.Addr().String())
				for data := make([]byte, size); err == nil; {
					_, err = c.Write(data)
				}
			}()
			c, err := ln.Accept()
			require.NoError(b, err)
			defer c.Close()
			b.SetBytes(size)
			buf := make([]byte, size)
			for n := 0; b.Loop(); n++ {
				if fresh {
					buf = make([]byte, size)
					kept[n%len(kept)] = buf
				}
				if _, err := io.ReadFull(c, buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
