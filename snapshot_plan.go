package rafthttp

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/seed-4d73690b/rafthttp/internal/snapshot"
)

// plan says how one attempt at a transfer is made. It is settled by the answers of
// the receiver on the connection that carries the body, and by nothing else: what a
// peer stated before, or elsewhere, may be another process's.
//
// The zero plan is the plain one: the request of stock members, with the whole
// database from its first byte and nothing behind it.
type plan struct {
	resumable bool   // the body has a checksum behind the database (extensions: the snapshot)
	offset    int64  // where the part of the database in the body begins
	sum       uint32 // CRC-32C of what lies before it, which the receiver has

	tellsWork bool // the receiver says when it works without reading
}

// errUnsettled says that the receiver has something else each time it is asked.
var errUnsettled = errors.New("the receiver does not stay with what it has of the snapshot")

// errPlan says that what would be written is not what would be declared. It is a bug.
var errPlan = errors.New("rafthttp: the body of a snapshot does not fit its plan")

// contentLength returns the length of the body: head, rest of a database of size
// bytes, and what follows it. It is an error unless left, what the reader still has to
// give, is exactly that rest.
func (p plan) contentLength(head int, size, left int64) (int64, error) {
	rest := size - p.offset
	if rest < 0 || rest != left || (!p.resumable && p.offset != 0) {
		return 0, fmt.Errorf("%w: from byte %d of %d, with %d to read (resumable: %t)", errPlan, p.offset, size, left, p.resumable)
	}
	length := int64(head) + rest
	if p.resumable {
		length += trailerSize
	}
	return length, nil
}

// header states the plan of a request (extensions: the snapshot).
func (p plan) header(h http.Header, to string) {
	if p.resumable {
		h.Set(headerRaftTo, to)
		h.Set(headerSnapshotOffset, strconv.FormatInt(p.offset, 10))
	}
	if p.tellsWork {
		h.Set(headerExtensions, extensionWorking)
	}
}

const (
	// maxQuestions is how often one attempt asks how far the receiver is.
	maxQuestions = 4
	// maxSumming is how long the bytes that the receiver has are read and summed up,
	// before they are sent once more instead: it keeps them for twice as long.
	maxSumming = 5 * time.Minute
	// maxWriting is how long a receiver is believed that it is still writing, while nothing
	// moves, and maxInstalling that it is at work on a snapshot that it has. One that is
	// writing an earlier part is asked again every writingWait.
	maxWriting    = 10 * time.Minute
	maxInstalling = time.Hour
	writingWait   = time.Second
)

// settle returns a connection with u and the plan for it. Nothing is done between the
// receiver's last answer and the body, since connections that are idle are closed: where
// the reader does not stand where the plan begins, or what lies before that is not
// summed up, that is done without a connection, and the receiver is asked again.
//
// A plain body has a connection of its own, as that of a stock member: there are servers
// and proxies that take one request from each.
func (t *outgoingSnapshot) settle(u url.URL) (*snapshotConn, plan, error) {
	for range maxQuestions {
		conn, p, err := t.askAt(u)
		if err != nil {
			return nil, plan{}, err
		}
		stands := t.stands(p)
		if p.resumable && stands {
			return conn, p, nil
		}
		conn.Close()
		if !stands {
			if err := t.prepare(func(ctx context.Context) error { return t.reach(ctx, p) }); err != nil {
				return nil, plan{}, err
			}
		}
		if !p.resumable {
			conn, err := t.connect(t.ctx, u)
			return conn, p, err
		}
	}
	return nil, plan{}, errUnsettled
}

// askAt returns a connection with u and what the receiver says there. One that is still
// writing an earlier part is asked again until it is not.
func (t *outgoingSnapshot) askAt(u url.URL) (*snapshotConn, plan, error) {
	for start := time.Now(); ; {
		conn, err := t.connect(t.ctx, u)
		if err != nil {
			return nil, plan{}, err
		}
		p, err := t.askOn(t.ctx, conn)
		if err == nil {
			return conn, p, nil
		}
		conn.Close()
		if !errors.Is(err, ErrSnapshotWriting) || time.Since(start) > maxWriting {
			return nil, plan{}, err
		}
		t.Failed(err)
		t.release() // others may go on meanwhile
		if !sleep(t.ctx, writingWait+rand.N(writingWait/4)) {
			return nil, plan{}, t.cause()
		}
		if err := t.acquire(); err != nil {
			return nil, plan{}, err
		}
	}
}

// stands reports whether the body of a plan can be sent at once.
func (t *outgoingSnapshot) stands(p plan) bool {
	return t.db.At() == p.offset && (!p.resumable || t.sums.At == p.offset && t.sums.Sum == p.sum)
}

// reach has the reader stand where a plan begins. Where the receiver has something else
// than we, that is the first byte, from then on.
func (t *outgoingSnapshot) reach(ctx context.Context, p plan) error {
	if p.offset > 0 {
		same, err := t.sumTo(ctx, p.offset, p.sum)
		t.maxSummed = max(t.maxSummed, t.sums.At)
		if err != nil || same {
			return err
		}
		t.rejected = acked{p.offset, p.sum}
	}
	t.sums = snapshot.Checksums{}
	return t.db.GoTo(0)
}

// askOn has the receiver say on conn whether it resumes snapshots, and how far it is.
func (t *outgoingSnapshot) askOn(ctx context.Context, conn *snapshotConn) (plan, error) {
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })()
	if err := conn.SetDeadline(time.Now().Add(t.readTimeout)); err != nil {
		return plan{}, err
	}
	p, err := t.ask(conn)
	if err != nil {
		return plan{}, causeOrCut(ctx, err)
	}
	return p, conn.SetDeadline(time.Time{})
}

// ask returns a plain plan for a receiver that does not resume, or not on connections
// such as this one.
func (t *outgoingSnapshot) ask(conn *snapshotConn) (p plan, err error) {
	// A probe is what stock members send each other all the time.
	resp, err := t.exchange(conn, ProbingPrefix, nil) //nolint:bodyclose // exchange has read and closed it
	if err != nil {
		return p, err
	}
	p.tellsWork = statesExtension(resp.Header, extensionWorking)
	if resp.Close || !statesExtension(resp.Header, extensionSnapshot) {
		t.receiverResumes = false
		return p, nil
	}
	meta := t.m.GetSnapshot().GetMetadata()
	resp, err = t.exchange(conn, snapshotOffsetPath, http.Header{ //nolint:bodyclose // the same
		headerRaftTo:        {t.link.peer.String()},
		headerSnapshotTerm:  {strconv.FormatUint(meta.GetTerm(), 10)},
		headerSnapshotIndex: {strconv.FormatUint(meta.GetIndex(), 10)},
		headerSnapshotSize:  {strconv.FormatInt(t.size, 10)},
	})
	if err != nil && !isTimeout(err) {
		return p, nil // it was closed without a word
	}
	if err != nil {
		return p, err
	}
	p.tellsWork = statesExtension(resp.Header, extensionWorking)
	if resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusMethodNotAllowed {
		t.receiverResumes = false // it is no longer the member it was
		return p, nil
	}
	offset, sum, err := t.offsetIn(resp)
	if err != nil {
		return p, err
	}
	if t.receiverResumes = !resp.Close; resp.Close {
		return p, nil
	}
	p.resumable = true
	t.maxAckedOffset = max(t.maxAckedOffset, offset)
	if has := (acked{offset, sum}); offset > 0 && has != t.rejected && t.db.CanSeek() {
		p.offset, p.sum = offset, sum
	}
	return p, nil
}

// acked is how much of a database a receiver has, as it says.
type acked struct {
	offset int64
	sum    uint32
}

// offsetIn reads the answer to the question how far the receiver is.
func (t *outgoingSnapshot) offsetIn(resp *http.Response) (offset int64, sum uint32, err error) {
	if err := t.concludeSnapshot(resp, endpointOffset); err != nil {
		return 0, 0, err
	}
	if offset, err = sizeHeader(resp.Header, headerSnapshotOffset); err != nil {
		return 0, 0, err
	}
	if offset > t.size {
		return 0, 0, fmt.Errorf("the receiver says it has %d of %d bytes", offset, t.size)
	}
	n, err := strconv.ParseUint(resp.Header.Get(headerSnapshotChecksum), 16, 32)
	if err != nil {
		return 0, 0, fmt.Errorf("header %s: not a checksum: %.64q", headerSnapshotChecksum, resp.Header.Get(headerSnapshotChecksum))
	}
	return offset, uint32(n), nil
}

func isTimeout(err error) bool {
	var network net.Error
	return errors.As(err, &network) && network.Timeout()
}
