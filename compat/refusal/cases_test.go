package refusal_test

import (
	"bytes"
	"encoding/binary"
	"net/http"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/compat/member"
	"github.com/seed-4d73690b/rafthttp/compat/v36/drive"
)

// situation is a request, and what the member that gets it has been brought to before.
type situation struct {
	request request
	state
}

// state is what a member has been brought to.
type state struct {
	answer drive.Answer // of Process
	noDisk bool         // databases cannot be saved
}

// situations is every way to be refused, and the ways to be accepted beside them, by name.
func situations() map[string]situation {
	all := make(map[string]situation)
	add := func(name string, r request) { all[name] = situation{request: r} }

	lanes := map[string]request{"pipeline": pipeline, "message stream": stream, "msgapp stream": appends, "snapshot": snapshot}
	for name, r := range lanes {
		add(name+", good", r)
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete} {
			if method != r.method && !(method == http.MethodHead && r.method == http.MethodGet) {
				add(name+", method "+method, r.withMethod(method))
			}
		}
		add(name+", method HEAD", r.withMethod(http.MethodHead))
		add(name+", wrong method and no headers", request{method: http.MethodPatch, path: r.path})
		add(name+", no headers", request{method: r.method, path: r.path, body: r.body})
		for header, values := range map[string][]string{
			"X-Server-Version":      {"", "2.9.9", "2.0.0", "3.0.0", "3.6.16", "3.99.0", "4.0.0", "10.0.0", "3.7.0-rc.1", "3.8.0-alpha.0+git", "3.7", "three", "3.7.0.0", "-1.0.0"},
			"X-Min-Cluster-Version": {"", "2.0.0", "3.6.0", "3.7.0", "3.7.9", "3.8.0", "4.0.0", "three", "3"},
			"X-Etcd-Cluster-ID":     {"", "1001", "0", "0000000000001000", "zz", "10000000000001000", "FFFF"},
			"X-Server-From":         {"", "3", "0", "zz", "00002", "10000000000000002"},
			"X-Raft-To":             {"", "2", "0", "zz", "01", "10000000000000001"},
			"X-PeerURLs":            {"http://127.0.0.1:1", "http://127.0.0.1:1,http://127.0.0.1:2", "http://127.0.0.1:1,", "127.0.0.1:1", "ftp://x:1", "http://%zz:1", "http://127.0.0.1", "http://127.0.0.1:1/path", "unix://localhost:1", ","},
		} {
			for _, v := range values {
				add(name+", "+header+" "+orNone(v), r.with(header, v))
			}
		}
		// Which of two faults is answered.
		add(name+", version and cluster wrong", r.with("X-Server-Version", "2.0.0").with("X-Etcd-Cluster-ID", "1"))
		add(name+", cluster wrong and malformed peer URLs", r.with("X-Etcd-Cluster-ID", "1").with("X-PeerURLs", "nothing"))
	}
	for _, kind := range []string{"message", "msgapp"} {
		for _, from := range []string{"3", "9", "zz", "", "0002", "2/3", "2/", "1"} {
			r := stream.withPath("/raft/stream/" + kind + "/" + from)
			if len(from) == 1 { // an id: the header and the path say the same
				r = r.with("X-Server-From", from)
			}
			add("stream /"+kind+"/"+from, r)
		}
		add("stream "+kind+", unknown with peer URLs", stream.withPath("/raft/stream/"+kind+"/3").with("X-PeerURLs", "http://127.0.0.1:1").with("X-Server-From", "3"))
		add("stream "+kind+", removed and for another", stream.withPath("/raft/stream/"+kind+"/9").with("X-Server-From", "9").with("X-Raft-To", "8"))
		add("stream "+kind+", unknown and for another", stream.withPath("/raft/stream/"+kind+"/3").with("X-Server-From", "3").with("X-Raft-To", "8"))
	}
	for _, path := range []string{"/raft/", "/raft/other", "/raft/stream", "/raft/stream/", "/raft/stream/other/2", "/raft/stream/message",
		"/raft/stream/2", "/raft//stream/message/2", "/raft/stream/msgappv2/2", "/raft/stream/x/message/2"} {
		add("path "+path, stream.withPath(path))
		add("path "+path+", posted", pipeline.withPath(path))
	}
	addBodies(all)
	for _, answer := range []drive.Answer{drive.Refuse, drive.Removed, drive.Etcd403} {
		all["pipeline, raft answers "+string(answer)] = situation{pipeline, state{answer: answer}}
		all["snapshot, raft answers "+string(answer)] = situation{snapshot, state{answer: answer}}
	}
	all["snapshot, no disk"] = situation{snapshot, state{noDisk: true}}
	all["snapshot, no disk and raft would refuse"] = situation{snapshot, state{noDisk: true, answer: drive.Refuse}}
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodHead} {
		add("probing, method "+method, probing.withMethod(method))
	}
	return all
}

func addBodies(all map[string]situation) {
	add := func(name string, r request) { all[name] = situation{request: r} }
	for name, body := range map[string][]byte{
		"empty":           {},
		"cut off":         encode(heartbeat())[:3],
		"no protobuf":     []byte("no protobuf at all"),
		"unknown field":   append(encode(heartbeat()), 0xf8, 0x07, 0x01), // field 127
		"unknown type":    encode(&raftpb.Message{Type: raftpb.MessageType(99).Enum(), From: new(uint64(2))}),
		"a snapshot":      encode(snap()),
		"a large message": encode(&raftpb.Message{Type: raftpb.MessageType_MsgProp.Enum(), Entries: []*raftpb.Entry{{Data: make([]byte, 1<<20)}}}),
		"zero ids":        encode(&raftpb.Message{Type: raftpb.MessageType_MsgHeartbeat.Enum()}),
		"for another":     encode(&raftpb.Message{Type: raftpb.MessageType_MsgHeartbeat.Enum(), From: new(uint64(2)), To: new(uint64(7))}),
		"bad utf-8 bytes": encode(&raftpb.Message{Context: []byte{0xff, 0xfe}}),
		"group":           {0x0b, 0x0c},
		"a length beyond": {0x62, 0xff, 0xff, 0xff, 0xff, 0x0f},
	} {
		add("pipeline, body: "+name, pipeline.withBody(body))
	}
	noSnapshot, noMetadata, heart := snap(), snap(), heartbeat()
	noSnapshot.Snapshot = nil
	noMetadata.Snapshot = &raftpb.Snapshot{}
	for name, body := range map[string][]byte{
		"empty":                   {},
		"a length cut off":        framed(snap())[:5],
		"a message cut off":       framed(snap())[:12],
		"a length over the limit": bytes.Join([][]byte{binary.BigEndian.AppendUint64(nil, 64<<20+1), make([]byte, 100)}, nil),
		"a length of all ones":    bytes.Repeat([]byte{0xff}, 100),
		"no protobuf":             append(binary.BigEndian.AppendUint64(nil, 18), "no protobuf at all"...),
		"a heartbeat":             framed(heart),
		"no snapshot":             framed(noSnapshot),
		"no metadata":             framed(noMetadata),
		"no database":             framed(snap()),
		"a length of zero":        make([]byte, 8),
	} {
		add("snapshot, body: "+name, snapshot.withBody(body))
	}
}

func orNone(v string) string {
	if v == "" {
		return "none"
	}
	return v
}

// asked is a member in one state, to which requests are sent one after the other.
type asked struct {
	member.Member
	recorder *member.Recorder
}

func newAsked(t *testing.T, kind member.Kind, s state) asked {
	t.Helper()
	a, dir := asked{recorder: new(member.Recorder)}, t.TempDir()
	m, err := member.Start(kind, member.Config{ID: 1, Cluster: cluster, Dir: dir, Raft: a.recorder,
		Tune: func(t *rafthttp.Transport) { t.ServerVersion = "3.7.3" }})
	require.NoError(t, err)
	t.Cleanup(m.Stop)
	m.AddPeer(2, "http://127.0.0.1:9") // nobody is there
	m.MarkRemoved(9)
	m.SetAnswer(s.answer)
	if s.noDisk {
		require.NoError(t, os.RemoveAll(dir))
	}
	a.Member = m
	return a
}
