package protocol

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"go.etcd.io/etcd/client/pkg/v3/types"

	"github.com/seed-4d73690b/rafthttp/snap"
)

// This file has the headers of snapshots, in both directions: docs/extensions.md. Stock members neither send nor read them.

// HeaderExtensions lists the extensions that a member has.
const HeaderExtensions = "X-Raft-Extensions"

// HeaderGroup names the raft group of a snapshot, in decimal. It is sent only to a member that has stated ExtensionGroups on the
// same connection.
const HeaderGroup = "X-Raft-Group"

const (
	headerTerm     = "X-Raft-Snapshot-Term"
	headerIndex    = "X-Raft-Snapshot-Index"
	headerSize     = "X-Raft-Snapshot-Size"
	headerOffset   = "X-Raft-Snapshot-Offset"
	headerChecksum = "X-Raft-Snapshot-Checksum"
	headerTransfer = "X-Raft-Snapshot-Transfer"
)

// Extensions, by their names in HeaderExtensions.
const (
	ExtensionResuming = "snapshot-1"
	ExtensionWorking  = "snapshot-working-1"
	ExtensionGroups   = "groups-1"
)

// SnapshotTrailerBytes is the length of the checksum after a database.
const SnapshotTrailerBytes = 4

// WorkingAnswer is the interim answer of a receiver that works without reading.
const WorkingAnswer = "HTTP/1.1 102 Processing\r\n\r\n"

// Extensions returns the extensions of a member that has a Snapshotter, as HeaderExtensions states them.
func Extensions(resumes bool) string {
	if resumes {
		return ExtensionResuming + ", " + ExtensionWorking
	}
	return ExtensionWorking
}

// GroupExtensions returns the extensions of a member as the receiver of snapshots of one raft group. The group may have no
// Snapshotter.
func GroupExtensions(receives, resumes bool) string {
	if !receives {
		return ExtensionGroups
	}
	return Extensions(resumes) + ", " + ExtensionGroups
}

// StatesGroup reports whether a request is about a raft group, valid or not.
func StatesGroup(h http.Header) bool { return len(h.Values(HeaderGroup)) > 0 }

// GroupIn returns the raft group that a request states.
func GroupIn(h http.Header) (uint64, error) {
	id, err := uintIn(h, HeaderGroup)
	if err == nil && (id == 0 || len(h.Values(HeaderGroup)) > 1) {
		err = BadRequest("header %s: not one group: %.64q", HeaderGroup, h.Values(HeaderGroup))
	}
	return id, err
}

// HasExtension reports whether the member that sent h has an extension.
func HasExtension(h http.Header, extension string) bool {
	for _, list := range h.Values(HeaderExtensions) {
		names := strings.Split(list, ",")
		if slices.ContainsFunc(names, func(name string) bool { return strings.TrimSpace(name) == extension }) {
			return true
		}
	}
	return false
}

// SnapshotPlan describes one attempt at a transfer. It is determined by the answers of the receiver on the connection
// that carries the body, and by nothing else: a peer's earlier statements, or those elsewhere, may be from another
// process.
//
// The zero plan is the plain one: the request of stock members, with the complete database from its first byte and
// nothing after it.
type SnapshotPlan struct {
	Resumable bool   // the body has a checksum after the database
	Offset    int64  // start of the database part in the body
	Sum       uint32 // CRC-32C of the bytes before it, which the receiver has

	TellsWork bool // the receiver reports when it works without reading
}

// ErrSnapshotPlan means that the body would have another length than its request would declare. It is a bug.
var ErrSnapshotPlan = errors.New("rafthttp: the body of a snapshot does not fit its plan")

// ContentLength returns the length of the body: head, rest of a database of size bytes, and trailer. It is an error
// unless remaining, the bytes that the reader still has, is exactly that rest.
func (p SnapshotPlan) ContentLength(head int, size, remaining int64) (int64, error) {
	rest := size - p.Offset
	if rest < 0 || rest != remaining || (!p.Resumable && p.Offset != 0) {
		return 0, fmt.Errorf("%w: from byte %d of %d, with %d to read (resumable: %t)", ErrSnapshotPlan, p.Offset, size, remaining, p.Resumable)
	}
	length := int64(head) + rest
	if p.Resumable {
		length += SnapshotTrailerBytes
	}
	return length, nil
}

// TransferID distinguishes the attempts of one transfer from those of others, such as of a twin of the sender: it is
// random. It is 0 for members that state none.
type TransferID uint64

// StateIn states the transfer in a request.
func (id TransferID) StateIn(h http.Header) {
	if id != 0 {
		h.Set(headerTransfer, strconv.FormatUint(uint64(id), 16))
	}
}

// TransferIn returns the transfer that a request states.
func TransferIn(h http.Header) TransferID {
	id, err := strconv.ParseUint(h.Get(headerTransfer), 16, 64)
	if err != nil {
		return 0
	}
	return TransferID(id)
}

// StateIn states the plan in the request for a snapshot to a member.
func (p SnapshotPlan) StateIn(h http.Header, to types.ID) {
	if p.Resumable {
		h.Set(HeaderRaftTo, to.String())
		h.Set(headerOffset, strconv.FormatInt(p.Offset, 10))
	}
	if p.TellsWork {
		h.Set(HeaderExtensions, ExtensionWorking)
	}
}

// SnapshotPlanIn is the inverse of StateIn: the part of a plan that the receiver needs.
func SnapshotPlanIn(h http.Header) (p SnapshotPlan, err error) {
	p.TellsWork = HasExtension(h, ExtensionWorking)
	if h.Get(headerOffset) == "" {
		return p, nil
	}
	p.Resumable = true
	p.Offset, err = sizeIn(h, headerOffset)
	return p, err
}

// SnapshotQuestion asks a member how much of a database it has.
type SnapshotQuestion struct {
	About snap.Transfer
	ID    TransferID
}

// Header returns the headers of the question to a member, in addition to those of every request.
func (q SnapshotQuestion) Header(to types.ID) http.Header {
	h := http.Header{
		HeaderRaftTo: {to.String()},
		headerTerm:   {strconv.FormatUint(q.About.Term, 10)},
		headerIndex:  {strconv.FormatUint(q.About.Index, 10)},
		headerSize:   {strconv.FormatInt(q.About.Size, 10)},
	}
	q.ID.StateIn(h)
	return h
}

// SnapshotQuestionIn returns the question that a member asks.
func SnapshotQuestionIn(h http.Header, from types.ID) (q SnapshotQuestion, err error) {
	q.ID, q.About.From = TransferIn(h), uint64(from)
	if q.About.Term, err = uintIn(h, headerTerm); err != nil {
		return q, err
	}
	if q.About.Index, err = uintIn(h, headerIndex); err != nil {
		return q, err
	}
	q.About.Size, err = sizeIn(h, headerSize)
	return q, err
}

// SnapshotOffset is the answer to the question: how much of a database the receiver has.
type SnapshotOffset struct {
	Offset int64
	Sum    uint32 // CRC-32C of these bytes
}

// StateIn sets the headers of the answer.
func (o SnapshotOffset) StateIn(h http.Header) {
	h.Set(headerOffset, strconv.FormatInt(o.Offset, 10))
	h.Set(headerChecksum, fmt.Sprintf("%08x", o.Sum))
}

// SnapshotOffsetIn reads the answer to the question about a database of size bytes.
func SnapshotOffsetIn(h http.Header, size int64) (SnapshotOffset, error) {
	offset, err := sizeIn(h, headerOffset)
	if err != nil {
		return SnapshotOffset{}, err
	}
	if offset > size {
		return SnapshotOffset{}, fmt.Errorf("the receiver says it has %d of %d bytes", offset, size)
	}
	sum, err := strconv.ParseUint(h.Get(headerChecksum), 16, 32)
	if err != nil {
		return SnapshotOffset{}, fmt.Errorf("header %s: not a checksum: %.64q", headerChecksum, h.Get(headerChecksum))
	}
	return SnapshotOffset{offset, uint32(sum)}, nil
}

func uintIn(h http.Header, name string) (uint64, error) {
	n, err := strconv.ParseUint(h.Get(name), 10, 64)
	if err != nil {
		return 0, BadRequest("header %s: not a number: %.64q", name, h.Get(name))
	}
	return n, nil
}

// sizeIn reads a header that is a number of bytes.
func sizeIn(h http.Header, name string) (int64, error) {
	n, err := uintIn(h, name)
	if err == nil && n > math.MaxInt64 {
		err = BadRequest("header %s: out of range: %.64q", name, h.Get(name))
	}
	return int64(n), err
}
