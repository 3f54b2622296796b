package promise

import (
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// sabotaged reports whether members are made wrong, so that a judge has to notice it.
func (s *simulation) sabotaged(judge string) bool { return s.cfg.sabotage == judge }

// oneIn is how many messages there are for each that a wrong member treats badly.
const oneIn = 40

// sabotage does something wrong with a message that is to be processed. It reports true if that is all.
func (m *member) sabotage(there int, w *way, msg *raftpb.Message) bool {
	s, n := m.s, numberOf(msg)
	if msg.GetType() == raftpb.MsgSnap || n%oneIn != 0 {
		return false
	}
	switch s.cfg.sabotage {
	case "reported": // it is lost
		return kindOf(msg.GetType()) != control
	case "healthy link": // the same, but it is said to be dropped
		if kindOf(msg.GetType()) == control {
			m.dropped(w.from, kindNames[control], 1, nil)
			return true
		}
	case "order": // the next one comes first
		time.AfterFunc(s.tick()*3/2, func() { s.arrived(there, w, msg) })
		return true
	case "once":
		s.book.mu.Lock()
		w.msgs[kindOf(msg.GetType())][n].lane = 1
		s.book.mu.Unlock()
		s.arrived(there, w, msg)
	case "invented":
		if kindOf(msg.GetType()) == control {
			msg.Commit = new(n + 1000)
		} else {
			msg.Entries[0].Data = []byte("other")
		}
	}
	return false
}
