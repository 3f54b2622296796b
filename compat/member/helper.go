package member

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"sync"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/seed-4d73690b/rafthttp/compat/v36/drive"
)

// helper is a member in a process of its own.
type helper struct {
	cfg Config
	url string
	cmd *exec.Cmd
	in  io.WriteCloser

	// As in a transport, proposals have a way into Process of their own: they may block it while there is no leader.
	proposals, others chan *raftpb.Message
	running           sync.WaitGroup // the reader of the helper's output, and both ways into Process
	ctx               context.Context
	cancel            context.CancelFunc
	stop              sync.Once

	writing sync.Mutex // held while a command is written
	seq     uint64     // guarded by writing

	mu      sync.Mutex // guards what follows
	waiting map[uint64]chan drive.Event
	closed  map[uint64]chan bool // by number of the command: who waits for CloseNotify
	ended   bool
}

func startHelper(cfg Config) (Member, error) {
	path, err := BuildHelper()
	if err != nil {
		return nil, err
	}
	h := &helper{
		cfg: cfg, cmd: exec.Command(path), waiting: make(map[uint64]chan drive.Event), closed: make(map[uint64]chan bool),
		proposals: make(chan *raftpb.Message, 4096), others: make(chan *raftpb.Message, 4096),
	}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	h.cmd.Stderr = os.Stderr
	if h.in, err = h.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := h.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := h.cmd.Start(); err != nil {
		return nil, err
	}
	h.running.Go(func() { h.receive(out) })
	h.running.Go(func() { h.process(h.proposals) })
	h.running.Go(func() { h.process(h.others) })
	done, err := h.do(drive.Command{Op: drive.Start, ID: cfg.ID, Cluster: cfg.Cluster, Dir: cfg.Dir, Listen: cfg.Listen, TLS: cfg.TLS})
	if err != nil {
		h.Stop()
		return nil, err
	}
	h.url = done.URL
	return h, nil
}

// receive hands the helper's events to whom they concern, until its output ends.
func (h *helper) receive(out io.Reader) {
	dec := json.NewDecoder(bufio.NewReaderSize(out, 1<<20))
	for {
		var ev drive.Event
		if dec.Decode(&ev) != nil {
			break
		}
		h.handle(ev)
	}
	close(h.proposals)
	close(h.others)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ended = true
	for _, c := range h.waiting {
		close(c)
	}
}

func (h *helper) handle(ev drive.Event) {
	switch ev.Ev {
	case drive.Done:
		h.mu.Lock()
		h.waiting[ev.Seq] <- ev
		delete(h.waiting, ev.Seq)
		h.mu.Unlock()
	case drive.Received:
		m := new(raftpb.Message)
		if err := proto.Unmarshal(ev.Message, m); err != nil {
			panic(err)
		}
		if m.GetType() == raftpb.MessageType_MsgProp {
			h.proposals <- m
		} else {
			h.others <- m
		}
	case drive.Unreachable:
		h.cfg.Raft.ReportUnreachable(ev.Peer)
	case drive.Snapshot:
		status := raft.SnapshotFailure
		if ev.OK {
			status = raft.SnapshotFinish
		}
		h.cfg.Raft.ReportSnapshot(ev.Peer, status)
	case drive.Closed:
		h.mu.Lock()
		h.closed[ev.Seq] <- ev.OK
		delete(h.closed, ev.Seq)
		h.mu.Unlock()
	case drive.Failed:
		if h.cfg.Failed != nil {
			h.cfg.Failed(errors.New(ev.Err))
		}
	}
}

func (h *helper) process(lane <-chan *raftpb.Message) {
	for m := range lane {
		if h.ctx.Err() == nil {
			_ = h.cfg.Raft.Process(h.ctx, m)
		}
	}
}

// do sends a command and waits until it is done.
func (h *helper) do(c drive.Command) (drive.Event, error) {
	answer, err := h.write(c, nil)
	if err != nil {
		return drive.Event{}, err
	}
	done, ok := <-answer
	switch {
	case !ok:
		return done, errors.New("the helper has ended")
	case done.Err != "":
		return done, errors.New(done.Err)
	}
	return done, nil
}

// write numbers and writes one command; closed, where not nil, gets what CloseNotify gets.
func (h *helper) write(c drive.Command, closed chan bool) (<-chan drive.Event, error) {
	h.writing.Lock()
	defer h.writing.Unlock()
	h.seq++
	c.Seq = h.seq
	line, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	answer := make(chan drive.Event, 1)
	h.mu.Lock()
	ended := h.ended
	h.waiting[c.Seq] = answer
	if closed != nil {
		h.closed[c.Seq] = closed
	}
	h.mu.Unlock()
	if ended {
		return nil, errors.New("the helper has ended")
	}
	_, err = h.in.Write(append(line, '\n'))
	return answer, err
}

// must does a command that fails only if the helper breaks; a test cannot go on then.
func (h *helper) must(c drive.Command) drive.Event {
	done, err := h.do(c)
	if err != nil && h.ctx.Err() == nil {
		panic("etcd 3.6 helper: " + c.Op + ": " + err.Error())
	}
	return done
}

func (h *helper) ID() uint64  { return h.cfg.ID }
func (h *helper) URL() string { return h.url }

func (h *helper) peer(op string, id uint64, urls ...string) {
	h.must(drive.Command{Op: op, Peer: id, URLs: urls})
}

func (h *helper) AddPeer(id uint64, urls ...string)    { h.peer(drive.AddPeer, id, urls...) }
func (h *helper) AddRemote(id uint64, urls ...string)  { h.peer(drive.AddRemote, id, urls...) }
func (h *helper) UpdatePeer(id uint64, urls ...string) { h.peer(drive.UpdatePeer, id, urls...) }
func (h *helper) RemovePeer(id uint64)                 { h.peer(drive.RemovePeer, id) }
func (h *helper) Cut(id uint64)                        { h.peer(drive.Cut, id) }
func (h *helper) Mend(id uint64)                       { h.peer(drive.Mend, id) }
func (h *helper) Pause()                               { h.must(drive.Command{Op: drive.Pause}) }
func (h *helper) Resume()                              { h.must(drive.Command{Op: drive.Resume}) }
func (h *helper) MarkRemoved(id uint64)                { h.peer(drive.MarkRemoved, id) }
func (h *helper) SetAnswer(a drive.Answer)             { h.must(drive.Command{Op: drive.SetAnswer, Answer: a}) }

func (h *helper) Send(msgs ...*raftpb.Message) {
	h.must(drive.Command{Op: drive.Send, Messages: encode(msgs...)})
}

func (h *helper) SendSnapshot(m *raftpb.Message, db Source) <-chan bool {
	closed := make(chan bool, 1)
	_, err := h.write(drive.Command{Op: drive.SendSnapshot, Messages: encode(m), Database: &db.Generated, File: db.File}, closed)
	if err != nil && h.ctx.Err() == nil {
		panic("etcd 3.6 helper: " + err.Error())
	}
	return closed
}

func encode(msgs ...*raftpb.Message) [][]byte {
	encoded := make([][]byte, len(msgs))
	for i, m := range msgs {
		b, err := proto.Marshal(m)
		if err != nil {
			panic(err)
		}
		encoded[i] = b
	}
	return encoded
}

func (h *helper) Look(peer uint64) Look {
	done := h.must(drive.Command{Op: drive.Look, Peer: peer})
	return Look{ActiveSince: done.ActiveSince, ActivePeers: done.ActivePeers, Requests: done.Requests, Logged: done.Logged}
}

func (h *helper) Stop() {
	h.stop.Do(func() {
		h.cancel()
		_, _ = h.do(drive.Command{Op: drive.Stop})
		h.in.Close()
		h.running.Wait()
		_ = h.cmd.Wait()
	})
}
