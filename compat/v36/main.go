// Command v36 is a member that runs the transport of etcd v3.6.16, for the tests of package compat.
// It is driven over its standard input and output in the language of package drive.
//
// It is a module of its own because etcd 3.6 needs raft v3.6, whose messages (gogo protobuf) are other types under the
// same import path as those of raft v3.7.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/seed-4d73690b/rafthttp/compat/v36/drive"
)

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "v36:", err)
		os.Exit(1)
	}
}

// run carries out the commands of in, one after the other, until in ends.
func run(in io.Reader, out io.Writer) error {
	ev := &events{enc: json.NewEncoder(out)}
	m := &member{events: ev}
	defer m.stop()
	dec := json.NewDecoder(bufio.NewReaderSize(in, 1<<20))
	for {
		var c drive.Command
		if err := dec.Decode(&c); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		done, err := m.do(c)
		done.Ev, done.Seq = drive.Done, c.Seq
		if err != nil {
			done.Err = err.Error()
		}
		if err := ev.emit(done); err != nil {
			return err
		}
	}
}

// events writes events, one a line; it may be used concurrently.
type events struct {
	mu  sync.Mutex
	enc *json.Encoder
}

func (e *events) emit(ev drive.Event) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.enc.Encode(ev)
}
