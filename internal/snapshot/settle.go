package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/seed-4d73690b/rafthttp/internal/errs"
	"github.com/seed-4d73690b/rafthttp/internal/protocol"
)

// errNoWord means that the answers to an attempt may be from another server, such as a proxy, or
// did not arrive: the receiver has not said whether it resumes snapshots.
var errNoWord = errors.New("the receiver has not said whether it resumes snapshots")

// errUnsettled means that the receiver has a different part of the snapshot each time it is asked.
var errUnsettled = errors.New("the receiver does not stay with what it has of the snapshot")

const (
	// maxQuestions is how often one attempt asks for the receiver's offset.
	maxQuestions = 4
	// maxNoWord is how often one attempt gets no answer from the receiver before its plan is
	// plain.
	maxNoWord = 2
	// maxSumming is how long it may take to read and sum up the bytes that the receiver has,
	// which keeps them for ten minutes. Otherwise they are sent again instead: the time
	// is lost, so that is predicted from the pace, once summingTrial has shown it.
	maxSumming   = 8 * time.Minute
	summingTrial = 30 * time.Second
	// maxWriting is how long a receiver may report that it is still writing, without
	// progress, and maxInstalling that it is working on a snapshot that it has. One that is
	// writing an earlier part is asked again every writingWait.
	maxWriting    = 10 * time.Minute
	maxInstalling = time.Hour
	writingWait   = time.Second
)

// settle returns a connection with u and the plan for it. Between the
// receiver's last answer and the body no other work is done, since idle connections are closed: if
// the reader is not at the start of the plan, or the bytes before that are not
// summed up, that is done without a connection, and the receiver is asked again.
//
// A plain body has a separate connection, like that of a stock member: some servers
// and proxies accept one request from each. That of a raft group is on the connection
// whose other end has the group.
func (t *transfer) settle(u url.URL) (*peerConn, protocol.SnapshotPlan, error) {
	for range maxQuestions {
		conn, p, err := t.askAt(u)
		if err != nil {
			return nil, protocol.SnapshotPlan{}, err
		}
		ready := t.isReady(p)
		if ready && (p.Resumable || t.sender.cfg.Group) {
			return conn, p, nil
		}
		conn.Close()
		if !ready {
			if err := t.prepare(func(ctx context.Context) error { return t.reach(ctx, p) }); err != nil {
				return nil, protocol.SnapshotPlan{}, err
			}
		}
		if !p.Resumable && !t.sender.cfg.Group {
			conn, err := t.connect(u)
			return conn, p, err
		}
	}
	return nil, protocol.SnapshotPlan{}, errUnsettled
}

// askAt returns a connection with u and the receiver's plan there. A receiver that is still
// writing an earlier part is asked again until it is not. One that does not answer is asked
// once more, later if it has said before that it resumes: it may come back.
func (t *transfer) askAt(u url.URL) (*peerConn, protocol.SnapshotPlan, error) {
	noWord := 0
	for start := time.Now(); ; {
		conn, err := t.connect(u)
		if err != nil {
			return nil, protocol.SnapshotPlan{}, err
		}
		p, err := t.askOn(conn)
		if errors.Is(err, errNoWord) {
			noWord++
			if noWord == maxNoWord && t.sender.cfg.Group {
				err = fmt.Errorf("%w: %w", errs.ErrNoGroups, err)
			} else if noWord == maxNoWord {
				p, err, t.receiverResumes = protocol.SnapshotPlan{}, nil, false
			}
		}
		if err == nil {
			return conn, p, nil
		}
		conn.Close()
		if noWord == maxNoWord {
			return nil, protocol.SnapshotPlan{}, err
		}
		if errors.Is(err, errNoWord) {
			wait := minRetryWait
			if t.receiverResumes {
				wait = writingWait
			}
			if !sleep(t.sender.cfg.Ctx, wait+rand.N(wait/4)) {
				return nil, protocol.SnapshotPlan{}, context.Cause(t.sender.cfg.Ctx)
			}
			continue
		}
		busy := t.sender.cfg.Group && errors.Is(err, protocol.ErrSnapshotBusy) // with other groups, for as long as they take
		t.gaveUpWaiting = !busy && time.Since(start) > maxWriting
		if !busy && !errors.Is(err, protocol.ErrSnapshotWriting) || t.gaveUpWaiting {
			return nil, protocol.SnapshotPlan{}, err
		}
		t.failed(err)
		if !busy { // or it would be open without a place
			t.release() // other transfers may continue meanwhile
		}
		if !sleep(t.sender.cfg.Ctx, writingWait+rand.N(writingWait/4)) {
			return nil, protocol.SnapshotPlan{}, context.Cause(t.sender.cfg.Ctx)
		}
		if err := t.acquire(); err != nil {
			return nil, protocol.SnapshotPlan{}, err
		}
	}
}

// sumTo seeks to offset and reports whether the bytes before it have this sum. It
// reads those that were not read yet, unless that takes too long.
func (t *transfer) sumTo(ctx context.Context, offset int64, sum uint32) (bool, error) {
	t.sums.back(offset)
	if err := t.db.goTo(t.sums.at); err != nil {
		return false, err
	}
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	start, from := time.Now(), t.sums.at
	for t.sums.at < offset {
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		if took := time.Since(start); took > summingTrial && !inTime(took, t.sums.at-from, offset-from) {
			return false, nil
		}
		n, err := t.db.Read((*buf)[:min(int64(len(*buf)), offset-t.sums.at)])
		t.sums.update((*buf)[:n])
		t.moved.Add(1)
		if err != nil && !(errors.Is(err, io.EOF) && t.sums.at == offset) {
			return false, err
		}
	}
	return t.sums.sum == sum, nil
}

// inTime reports whether all bytes are summed up within maxSumming, at the pace of the first
// ones.
func inTime(took time.Duration, done, all int64) bool {
	return took.Seconds()*float64(all) <= maxSumming.Seconds()*float64(done)
}

// isReady reports whether the body of a plan can be sent at once.
func (t *transfer) isReady(p protocol.SnapshotPlan) bool {
	return t.db.at() == p.Offset && (!p.Resumable || t.sums.at == p.Offset && t.sums.sum == p.Sum)
}

// reach moves the reader to the start of a plan. If the receiver has other bytes
// than we, that is the first byte, from then on.
func (t *transfer) reach(ctx context.Context, p protocol.SnapshotPlan) error {
	if p.Offset > 0 {
		same, err := t.sumTo(ctx, p.Offset, p.Sum)
		t.maxSummed = max(t.maxSummed, t.sums.at)
		if err != nil || same {
			return err
		}
		t.rejected = protocol.SnapshotOffset{Offset: p.Offset, Sum: p.Sum}
	}
	t.sums = checksums{}
	return t.db.goTo(0)
}

// askOn asks the receiver on conn whether it resumes snapshots, and for its offset.
func (t *transfer) askOn(conn *peerConn) (protocol.SnapshotPlan, error) {
	defer context.AfterFunc(t.sender.cfg.Ctx, func() { _ = conn.SetDeadline(time.Now()) })()
	if err := conn.SetDeadline(time.Now().Add(t.sender.cfg.Config.ReadTimeout)); err != nil {
		return protocol.SnapshotPlan{}, err
	}
	p, err := t.ask(conn)
	if err != nil {
		return protocol.SnapshotPlan{}, causeOrCut(t.sender.cfg.Ctx, err)
	}
	return p, conn.SetDeadline(time.Time{})
}

// ask returns a plain plan for a receiver that does not resume, or not on connections
// such as this one.
func (t *transfer) ask(conn *peerConn) (p protocol.SnapshotPlan, err error) {
	// Stock members send each other probes all the time.
	resp, err := t.exchange(conn, protocol.ProbingPath, nil) //nolint:bodyclose // exchange has read and closed it
	if err != nil && !isAnswer(err) && !t.receiverResumes {  // it was closed without an answer
		return p, fmt.Errorf("%w: %w", errNoWord, err)
	}
	if err != nil {
		return p, err
	}
	if err := t.notOfReceiver(resp); err != nil {
		return p, err
	}
	if t.sender.cfg.Group {
		return t.askOfGroup(conn, resp)
	}
	p.TellsWork = protocol.HasExtension(resp.Header, protocol.ExtensionWorking)
	if resp.Close || !protocol.HasExtension(resp.Header, protocol.ExtensionResuming) {
		t.receiverResumes = false
		return p, nil
	}
	if resp, err = t.askOffset(conn); err != nil { //nolint:bodyclose // exchange has read and closed it
		return p, err
	}
	p.TellsWork = protocol.HasExtension(resp.Header, protocol.ExtensionWorking)
	if resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusMethodNotAllowed {
		t.receiverResumes = false // it is no longer the member it was
		return p, nil
	}
	return t.planBy(resp, p)
}

// askOffset asks for the receiver's offset.
func (t *transfer) askOffset(conn *peerConn) (*http.Response, error) {
	resp, err := t.exchange(conn, conn.target.Path+protocol.OffsetOf, protocol.SnapshotQuestion{About: t.key, ID: t.id}.Header(t.sender.cfg.To))
	if err != nil && !isAnswer(err) { // it was closed without an answer
		err = fmt.Errorf("%w: %w", errNoWord, err)
	}
	return resp, err
}

// planBy returns the plan by the answer to the question.
func (t *transfer) planBy(resp *http.Response, p protocol.SnapshotPlan) (protocol.SnapshotPlan, error) {
	if err := t.sender.cfg.Peer.Conclude(resp, true); err != nil {
		return p, err
	}
	has, err := protocol.SnapshotOffsetIn(resp.Header, t.size)
	if err != nil {
		return p, err
	}
	if t.receiverResumes = !resp.Close; resp.Close {
		return p, nil
	}
	p.Resumable = true
	if has.Offset < t.ackedOffset {
		t.losses++
	}
	t.ackedOffset = has.Offset
	if has.Offset > 0 && has != t.rejected && t.db.canSeek() {
		p.Offset, p.Sum = has.Offset, has.Sum
	}
	return p, nil
}

// notOfReceiver returns an error if the answer to the probe is not one of a
// receiver: members answer 200 once they have started.
func (t *transfer) notOfReceiver(resp *http.Response) error {
	switch {
	case resp.StatusCode == http.StatusOK:
		return nil
	case resp.StatusCode >= http.StatusInternalServerError && t.receiverResumes:
		return fmt.Errorf("%w: status %d in answer to a probe", protocol.ErrSnapshotUnavailable, resp.StatusCode)
	}
	return fmt.Errorf("%w: status %d in answer to a probe", errNoWord, resp.StatusCode)
}

// isAnswer reports whether a failed exchange says something of the other end: that it does not answer in time, or that
// it refuses our certificate. With TLS 1.3 that comes in place of the first answer, as an alert.
func isAnswer(err error) bool {
	var network net.Error
	var alert *net.OpError
	return errors.As(err, &network) && network.Timeout() ||
		errors.As(err, &alert) && alert.Op == "remote error" // as crypto/tls names it
}
