package fair

import (
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp/internal/queue"
)

// Move gives those messages of an inbox that Process did not get yet to another inbox, in order and within its limits, for which is returns
// true: it is called under the lock of the pool. It returns how many left the inbox, and those of them that are lost since there is no
// room, with the verdict on the last one. Their age begins anew.
func (p *Pool) Move(from, to *Inbox, is func(m *raftpb.Message) bool) (moved int, lost []Received, why queue.Verdict) {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := p.takeOut(from, is)
	if len(all) == 0 {
		return 0, nil, queue.Accepted
	}
	p.released(from)
	p.readClock()
	for _, one := range all {
		one.Inbox = to
		if v := p.accept(one); v != queue.Accepted {
			lost, why = append(lost, one), v
		}
	}
	p.useWorkers(p.cfg.Workers)
	return len(all), lost, why
}

// takeOut is called with mu held: it takes the messages for which is returns true out of an inbox, except those that Process got. The caller
// calls released if there are any, and useWorkers.
func (p *Pool) takeOut(in *Inbox, is func(m *raftpb.Message) bool) (out []Received) {
	if in.worker != nil {
		p.takeBack(in.worker, nil)
	}
	if in.runnable {
		in.runnable = false
		e, _ := p.run.remove(in)
		in.more.pushFront(p.free.get(e.msg, e.size, e.at, e.coalesced))
	}
	var rest messages
	for in.more.last != nil {
		one := in.more.pop()
		if !is(one.msg) {
			rest.push(one)
			continue
		}
		out = append(out, Received{in, one.msg, one.size, one.coalesced})
		p.free.put(one)
		p.waiting--
	}
	in.more = rest
	for i := range out {
		p.release(&out[i])
	}
	if in.worker == nil {
		p.requeue(in, (*ring[Inbox]).pushFront)
	}
	return out
}
