// Package golden captures golden vectors off the wire from upstream's transports, writes them to files and reads them.
//
// The transport under capture is a black box: the package plays the other member with net/http alone.
package golden

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/encoding/protojson"
)

// The ids of the two members in every vector: From wrote, To is who received.
const (
	From, To = 0xa1, 0xb2
	Cluster  = 0xc3d4
)

// Kind is what a vector is the bytes of.
type Kind string

const (
	MessageStream Kind = "message stream"   // the response to GET /raft/stream/message/{from}, from its first byte
	AppendStream  Kind = "msgapp v2 stream" // the response to GET /raft/stream/msgapp/{from}, from its first byte
	Posts         Kind = "pipeline posts"   // the bodies of POST /raft, one after the other; each record is one body
	SnapshotPost  Kind = "snapshot post"    // the body of one POST /raft/snapshot: the record, then the database
)

// Vector is captured bytes, and what they mean.
type Vector struct {
	Name    string            `json:"-"` // of its files, without extension
	Bytes   []byte            `json:"-"`
	Kind    Kind              `json:"kind"`
	About   string            `json:"about"`
	Writer  string            `json:"writer"`            // for example "etcd 3.7.3"
	From    uint64            `json:"from"`              // id of the member that wrote
	To      uint64            `json:"to"`                // id of the member that the bytes are for
	Request map[string]string `json:"request,omitempty"` // of the (first) post: what identifies the sender
	Answer  map[string]string `json:"answer,omitempty"`  // to the request for the stream, likewise
	Records []Record          `json:"records"`
	DB      *Database         `json:"database,omitempty"` // of a snapshot post
}

// Record is one message, or one link heartbeat.
type Record struct {
	Offset        int             `json:"offset"`         // of its first byte, where the framing begins
	Size          int             `json:"size"`           // with the framing
	Type          *byte           `json:"type,omitempty"` // of a msgapp v2 stream: 0, 1 or 2
	LinkHeartbeat bool            `json:"link_heartbeat,omitempty"`
	Message       json.RawMessage `json:"message,omitempty"` // raftpb.Message as protojson; a set field is there, zero or not
}

// Database says where the database of a snapshot post stands in it: it reaches to the end.
type Database struct {
	Offset int `json:"offset"`
	Size   int `json:"size"`
}

// setMessage describes m. The text that protojson writes varies, so it is put into a form that does not.
func (r *Record) setMessage(m *raftpb.Message) error {
	if m == nil {
		return nil
	}
	text, err := protojson.Marshal(m)
	if err != nil {
		return err
	}
	var compact bytes.Buffer
	err = json.Compact(&compact, text)
	r.Message = compact.Bytes()
	return err
}

// Decoded returns the record's message; nil for a link heartbeat of a msgapp v2 stream.
func (r *Record) Decoded() (*raftpb.Message, error) {
	if r.Message == nil {
		return nil, nil
	}
	m := new(raftpb.Message)
	return m, protojson.Unmarshal(r.Message, m)
}

// Write writes v to its two files in dir: the bytes in .bin, the rest in .json.
func (v *Vector) Write(dir string) error {
	text, err := v.describe()
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, v.Name+".bin"), v.Bytes, 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, v.Name+".json"), text, 0o644)
}

// describe returns the text of the .json file: one line a record, which is long but can be compared.
func (v *Vector) describe() ([]byte, error) {
	head := *v
	head.Records = nil
	text, err := json.MarshalIndent(head, "", "  ")
	if err != nil {
		return nil, err
	}
	var records bytes.Buffer
	for i, r := range v.Records {
		line, err := json.Marshal(r)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			records.WriteString(",")
		}
		fmt.Fprintf(&records, "\n    %s", line)
	}
	text = bytes.Replace(text, []byte(`"records": null`), fmt.Appendf(nil, `"records": [%s`+"\n  ]", records.Bytes()), 1)
	return append(text, '\n'), nil
}

// Read returns the vectors of a directory, in the order of their names.
func Read(dir string) ([]*Vector, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, err
	}
	var all []*Vector
	for _, file := range files {
		base := file[:len(file)-len(".json")]
		v := &Vector{Name: filepath.Base(base)}
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(text, v); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if v.Bytes, err = os.ReadFile(base + ".bin"); err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, nil
}
