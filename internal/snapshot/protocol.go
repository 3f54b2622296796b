package snapshot

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"go.etcd.io/etcd/client/pkg/v3/types"

	"github.com/seed-4d73690b/rafthttp/internal/protocol"
	"github.com/seed-4d73690b/rafthttp/snap"
)

// This file has what the two ends of a transfer say to each other: docs/extensions.md, in both directions.

// Paths of requests.
const (
	Path       = "/raft/snapshot"
	OffsetPath = Path + "/offset" // the question
	ProbePath  = "/raft/probing"
)

// Headers. Stock members neither send nor look at those but for headerTo, which is the protocol's.
const (
	headerTo         = "X-Raft-To"
	headerExtensions = "X-Raft-Extensions"
	headerTerm       = "X-Raft-Snapshot-Term"
	headerIndex      = "X-Raft-Snapshot-Index"
	headerSize       = "X-Raft-Snapshot-Size"
	headerOffset     = "X-Raft-Snapshot-Offset"
	headerChecksum   = "X-Raft-Snapshot-Checksum"
	headerTransfer   = "X-Raft-Snapshot-Transfer"
)

// Extensions, by their names in headerExtensions.
const (
	extensionResuming = "snapshot-1"
	extensionWorking  = "snapshot-working-1"
)

// trailerBytes is the length of the checksum behind a database.
const trailerBytes = 4

// working is what a receiver says while it works without reading.
const working = "HTTP/1.1 102 Processing\r\n\r\n"

// State states what a member can do that has a Snapshotter.
func State(h http.Header, resumes bool) {
	if resumes {
		h.Set(headerExtensions, extensionResuming+", "+extensionWorking)
	} else {
		h.Set(headerExtensions, extensionWorking)
	}
}

// states reports whether the member that sent h has an extension.
func states(h http.Header, extension string) bool {
	for _, list := range h.Values(headerExtensions) {
		names := strings.Split(list, ",")
		if slices.ContainsFunc(names, func(name string) bool { return strings.TrimSpace(name) == extension }) {
			return true
		}
	}
	return false
}

// plan says how one attempt at a transfer is made. It is settled by the answers of the receiver on the connection that
// carries the body, and by nothing else: what a peer stated before, or elsewhere, may be another process's.
//
// The zero plan is the plain one: the request of stock members, with the whole database from its first byte and nothing
// behind it.
type plan struct {
	resumable bool   // the body has a checksum behind the database
	offset    int64  // where the part of the database in the body begins
	sum       uint32 // CRC-32C of what lies before it, which the receiver has

	tellsWork bool // the receiver says when it works without reading
}

// errPlan says that what would be written is not what would be declared. It is a bug.
var errPlan = errors.New("rafthttp: the body of a snapshot does not fit its plan")

// contentLength returns the length of the body: head, rest of a database of size bytes, and what follows it. It is an error
// unless remaining, what the reader still has to give, is exactly that rest.
func (p plan) contentLength(head int, size, remaining int64) (int64, error) {
	rest := size - p.offset
	if rest < 0 || rest != remaining || (!p.resumable && p.offset != 0) {
		return 0, fmt.Errorf("%w: from byte %d of %d, with %d to read (resumable: %t)", errPlan, p.offset, size, remaining, p.resumable)
	}
	length := int64(head) + rest
	if p.resumable {
		length += trailerBytes
	}
	return length, nil
}

// transferID tells the attempts of one transfer from those of others, such as of a twin of the sender: it is random. It is 0
// for members that state none.
type transferID uint64

func (id transferID) state(h http.Header) {
	if id != 0 {
		h.Set(headerTransfer, strconv.FormatUint(uint64(id), 16))
	}
}

// transferIn is the other direction.
func transferIn(h http.Header) transferID {
	id, err := strconv.ParseUint(h.Get(headerTransfer), 16, 64)
	if err != nil {
		return 0
	}
	return transferID(id)
}

// state states the plan with the request for a snapshot to a member.
func (p plan) state(h http.Header, to types.ID) {
	if p.resumable {
		h.Set(headerTo, to.String())
		h.Set(headerOffset, strconv.FormatInt(p.offset, 10))
	}
	if p.tellsWork {
		h.Set(headerExtensions, extensionWorking)
	}
}

// planOf is the other direction of state, as far as the receiver needs it.
func planOf(h http.Header) (p plan, err error) {
	p.tellsWork = states(h, extensionWorking)
	if h.Get(headerOffset) == "" {
		return p, nil
	}
	p.resumable = true
	p.offset, err = sizeIn(h, headerOffset)
	return p, err
}

// question asks a member how much of a database it has.
func question(t snap.Transfer, id transferID, to types.ID) http.Header {
	h := http.Header{
		headerTo:    {to.String()},
		headerTerm:  {strconv.FormatUint(t.Term, 10)},
		headerIndex: {strconv.FormatUint(t.Index, 10)},
		headerSize:  {strconv.FormatInt(t.Size, 10)},
	}
	id.state(h)
	return h
}

// Question is the question of a member.
type Question struct {
	about snap.Transfer
	id    transferID
}

// QuestionIn returns the question that a member asks.
func QuestionIn(h http.Header, from types.ID) (q Question, err error) {
	q.id, q.about.From = transferIn(h), uint64(from)
	if q.about.Term, err = uintIn(h, headerTerm); err != nil {
		return q, err
	}
	if q.about.Index, err = uintIn(h, headerIndex); err != nil {
		return q, err
	}
	q.about.Size, err = sizeIn(h, headerSize)
	return q, err
}

// acked is how much of a database a receiver has, as it says.
type acked struct {
	offset int64
	sum    uint32 // CRC-32C of that
}

// StateOffset answers the question.
func StateOffset(h http.Header, offset int64, sum uint32) {
	h.Set(headerOffset, strconv.FormatInt(offset, 10))
	h.Set(headerChecksum, fmt.Sprintf("%08x", sum))
}

// ackedIn reads the answer to the question about a database of size bytes.
func ackedIn(h http.Header, size int64) (acked, error) {
	offset, err := sizeIn(h, headerOffset)
	if err != nil {
		return acked{}, err
	}
	if offset > size {
		return acked{}, fmt.Errorf("the receiver says it has %d of %d bytes", offset, size)
	}
	sum, err := strconv.ParseUint(h.Get(headerChecksum), 16, 32)
	if err != nil {
		return acked{}, fmt.Errorf("header %s: not a checksum: %.64q", headerChecksum, h.Get(headerChecksum))
	}
	return acked{offset, uint32(sum)}, nil
}

func uintIn(h http.Header, name string) (uint64, error) {
	n, err := strconv.ParseUint(h.Get(name), 10, 64)
	if err != nil {
		return 0, protocol.BadRequest("header %s: not a number: %.64q", name, h.Get(name))
	}
	return n, nil
}

// sizeIn reads a header that is a number of bytes.
func sizeIn(h http.Header, name string) (int64, error) {
	n, err := uintIn(h, name)
	if err == nil && n > math.MaxInt64 {
		err = protocol.BadRequest("header %s: out of range: %.64q", name, h.Get(name))
	}
	return int64(n), err
}
