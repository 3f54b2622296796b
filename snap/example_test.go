package snap_test

import (
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"strings"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/snap"
)

// A Store is a rafthttp.Snapshotter: it saves what comes in, for the Ready loop to install.
func ExampleStore() {
	dir, err := os.MkdirTemp("", "snap")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	store, err := snap.Open(dir)
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	if err := store.RemoveUnclaimed(); err != nil { // nothing that an earlier life of the server received is needed
		log.Fatal(err)
	}
	n, err := store.SaveDBFrom(strings.NewReader("color=blue"), 1047) // the transport does this
	if err != nil {
		log.Fatal(err)
	}
	path, err := store.DBFilePath(1047)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(n, "bytes in", filepath.Base(path))

	if err := store.RemoveBefore(1048); err != nil { // once it is installed
		log.Fatal(err)
	}
	_, err = store.DBFilePath(1047)
	fmt.Println(err)
	// Output:
	// 10 bytes in 0000000000000417.snap.db
	// snap: no database snapshot for this index
}

// Whoever sends a snapshot waits for CloseNotify before it compacts its log.
func ExampleMessage() {
	database := io.NopCloser(strings.NewReader("color=blue"))
	m := snap.NewMessage(&raftpb.Message{Type: raftpb.MsgSnap.Enum(), To: new(uint64(2))}, database, 10)
	fmt.Println("database:", m.DatabaseSize(), "bytes")

	m.CloseWithError(nil) // the transport does this
	fmt.Println("sent:", <-m.CloseNotify())
	// Output:
	// database: 10 bytes
	// sent: true
}
