package rafthttp

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/seed-4d73690b/rafthttp/internal/snapshot"
)

// errUnsettled says that the receiver has something else each time it is asked.
var errUnsettled = errors.New("the receiver does not stay with what it has of the snapshot")

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
func (t *outgoingSnapshot) settle(u url.URL) (*snapshotConn, snapshot.Plan, error) {
	for range maxQuestions {
		conn, p, err := t.askAt(u)
		if err != nil {
			return nil, snapshot.Plan{}, err
		}
		stands := t.stands(p)
		if p.Resumable && stands {
			return conn, p, nil
		}
		conn.Close()
		if !stands {
			if err := t.prepare(func(ctx context.Context) error { return t.reach(ctx, p) }); err != nil {
				return nil, snapshot.Plan{}, err
			}
		}
		if !p.Resumable {
			conn, err := t.connect(t.ctx, u)
			return conn, p, err
		}
	}
	return nil, snapshot.Plan{}, errUnsettled
}

// askAt returns a connection with u and what the receiver says there. One that is still
// writing an earlier part is asked again until it is not.
func (t *outgoingSnapshot) askAt(u url.URL) (*snapshotConn, snapshot.Plan, error) {
	for start := time.Now(); ; {
		conn, err := t.connect(t.ctx, u)
		if err != nil {
			return nil, snapshot.Plan{}, err
		}
		p, err := t.askOn(t.ctx, conn)
		if err == nil {
			return conn, p, nil
		}
		conn.Close()
		if !errors.Is(err, ErrSnapshotWriting) || time.Since(start) > maxWriting {
			return nil, snapshot.Plan{}, err
		}
		t.Failed(err)
		t.release() // others may go on meanwhile
		if !sleep(t.ctx, writingWait+rand.N(writingWait/4)) {
			return nil, snapshot.Plan{}, t.cause()
		}
		if err := t.acquire(); err != nil {
			return nil, snapshot.Plan{}, err
		}
	}
}

// stands reports whether the body of a plan can be sent at once.
func (t *outgoingSnapshot) stands(p snapshot.Plan) bool {
	return t.db.At() == p.Offset && (!p.Resumable || t.sums.At == p.Offset && t.sums.Sum == p.Sum)
}

// reach has the reader stand where a plan begins. Where the receiver has something else
// than we, that is the first byte, from then on.
func (t *outgoingSnapshot) reach(ctx context.Context, p snapshot.Plan) error {
	if p.Offset > 0 {
		same, err := t.sumTo(ctx, p.Offset, p.Sum)
		t.maxSummed = max(t.maxSummed, t.sums.At)
		if err != nil || same {
			return err
		}
		t.rejected = snapshot.Acked{Offset: p.Offset, Sum: p.Sum}
	}
	t.sums = snapshot.Checksums{}
	return t.db.GoTo(0)
}

// askOn has the receiver say on conn whether it resumes snapshots, and how far it is.
func (t *outgoingSnapshot) askOn(ctx context.Context, conn *snapshotConn) (snapshot.Plan, error) {
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })()
	if err := conn.SetDeadline(time.Now().Add(t.readTimeout)); err != nil {
		return snapshot.Plan{}, err
	}
	p, err := t.ask(conn)
	if err != nil {
		return snapshot.Plan{}, causeOrCut(ctx, err)
	}
	return p, conn.SetDeadline(time.Time{})
}

// ask returns a plain plan for a receiver that does not resume, or not on connections
// such as this one.
func (t *outgoingSnapshot) ask(conn *snapshotConn) (p snapshot.Plan, err error) {
	// A probe is what stock members send each other all the time.
	resp, err := t.exchange(conn, ProbingPrefix, nil) //nolint:bodyclose // exchange has read and closed it
	if err != nil {
		return p, err
	}
	p.TellsWork = snapshot.States(resp.Header, snapshot.ExtensionWorking)
	if resp.Close || !snapshot.States(resp.Header, snapshot.ExtensionResuming) {
		t.receiverResumes = false
		return p, nil
	}
	resp, err = t.exchange(conn, snapshot.OffsetPath, snapshot.Question(t.key, t.link.peer)) //nolint:bodyclose // the same
	if err != nil && !isTimeout(err) {
		return p, nil // it was closed without a word
	}
	if err != nil {
		return p, err
	}
	p.TellsWork = snapshot.States(resp.Header, snapshot.ExtensionWorking)
	if resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusMethodNotAllowed {
		t.receiverResumes = false // it is no longer the member it was
		return p, nil
	}
	if err := t.concludeSnapshot(resp, endpointOffset); err != nil {
		return p, err
	}
	has, err := snapshot.AckedIn(resp.Header, t.size)
	if err != nil {
		return p, err
	}
	if t.receiverResumes = !resp.Close; resp.Close {
		return p, nil
	}
	p.Resumable = true
	t.maxAckedOffset = max(t.maxAckedOffset, has.Offset)
	if has.Offset > 0 && has != t.rejected && t.db.CanSeek() {
		p.Offset, p.Sum = has.Offset, has.Sum
	}
	return p, nil
}

func isTimeout(err error) bool {
	var network net.Error
	return errors.As(err, &network) && network.Timeout()
}
