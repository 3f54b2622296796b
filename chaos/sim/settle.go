package sim

import (
	"fmt"
	"maps"
	"slices"
	"testing/synctest"
	"time"

	"github.com/seed-4d73690b/rafthttp"
)

// settle waits until the cluster is well, and measures for how long it was not. It goes on for at least connectTime, by
// which a connection that is dead without a sign of it has been noticed.
func (s *simulation) settle() {
	s.t.Helper()
	mended := time.Now()
	var why string
	for s.started = mended; time.Since(mended) < settleTime; time.Sleep(tick) {
		s.endTold()
		down, since := s.down(), time.Since(s.started)
		if down != "" {
			s.report.Connected = max(s.report.Connected, since)
		}
		if down != "" && since > connectTime {
			s.fatalf("%v after everything was mended: %s", since, down)
		}
		if why = s.unsettled(); why != "" {
			s.report.Settled = max(s.report.Settled, time.Since(mended))
			continue
		}
		if since <= connectTime {
			continue
		}
		time.Sleep(quiet)
		if why = s.unsettled(); why == "" {
			return
		}
	}
	s.fatalf("%v after everything was mended: %s", settleTime, why)
}

// down says which stream between two members that know each other is down, if one is.
func (s *simulation) down() string {
	synctest.Wait()
	known := map[[2]uint64]rafthttp.PeerStatus{}
	for _, m := range s.running() {
		for _, p := range m.net.Status().Peers {
			known[[2]uint64{m.id, uint64(p.ID)}] = p
		}
	}
	for way, p := range known {
		if _, mutual := known[[2]uint64{way[1], way[0]}]; !mutual {
			continue
		}
		for _, l := range p.Lanes {
			if !l.Up {
				return fmt.Sprintf("lane %s from %d to %d is down: %s", l.Name, way[0], way[1], p.LastError)
			}
		}
	}
	return ""
}

// endTold ends members that were told by ErrorC that they were removed, as servers do.
func (s *simulation) endTold() {
	for _, m := range s.running() {
		m.mu.Lock()
		told := m.removed
		m.mu.Unlock()
		if told {
			s.c.Network().Note("member %d was told that it was removed, and ends", m.id)
			s.told[m.id] = true
			s.report.Told++
			s.forget(m.id)
			if len(s.disks) < fewest {
				s.fatalf("members %v were told that they were removed, and %d are left", slices.Sorted(maps.Keys(s.told)), len(s.disks))
			}
		}
	}
	s.mu.Lock()
	wrong := s.wrong
	s.mu.Unlock()
	if wrong != "" {
		s.fatalf("%s", wrong)
	}
}

// checkTold requires that all who were told that they were removed are.
func (s *simulation) checkTold() {
	m := s.running()[0]
	for id := range s.told {
		if !m.IsIDRemoved(id) {
			s.fatalf("member %d was told that it was removed, and was not", id)
		}
	}
}

// checkMembers requires that the members that raft knows are those of the state. Nothing is left to be applied.
func (s *simulation) checkMembers() {
	s.t.Helper()
	for _, m := range s.running() {
		_, _, voters, _ := m.view()
		if knows := slices.Sorted(maps.Keys(m.Status().Config.Voters.IDs())); !slices.Equal(knows, voters) {
			s.fatalf("raft of member %d knows the members %v, its state has %v", m.id, knows, voters)
		}
	}
}

// unsettled runs the members there should be, ends the others, and says what is wrong, if something is.
func (s *simulation) unsettled() string {
	synctest.Wait() // what begins at this very moment has ended, and is no queue
	var newest uint64
	var voters []uint64
	for _, m := range s.running() {
		if applied, _, v, _ := m.view(); applied > newest {
			newest, voters = applied, v
		}
	}
	for _, id := range voters {
		if s.told[id] {
			return fmt.Sprintf("member %d was told that it was removed, and the others do not know of it", id)
		}
		if s.members[id] == nil {
			s.start(id)
			return fmt.Sprintf("member %d did not run", id)
		}
	}
	var hashes, leads []uint64
	for _, id := range voters {
		m := s.members[id]
		applied, hash, v, _ := m.view()
		if applied != newest || !slices.Equal(v, voters) {
			return fmt.Sprintf("member %d has applied %d of %d", id, applied, newest)
		}
		hashes, leads = append(hashes, hash), append(leads, m.Status().Lead)
	}
	if len(slices.Compact(slices.Clone(hashes))) != 1 {
		s.fatalf("members %v have applied the same with other contents: %x", voters, hashes)
	}
	if leads[0] == 0 || len(slices.Compact(leads)) != 1 {
		return fmt.Sprintf("no common leader: %v", leads)
	}
	for _, m := range s.running() {
		if !slices.Contains(voters, m.id) {
			s.forget(m.id)
		}
	}
	for id := range s.disks {
		if !slices.Contains(voters, id) {
			delete(s.disks, id)
		}
	}
	return s.unconnected(voters)
}

// unconnected says which stream is down or which queue is not empty, if one is.
func (s *simulation) unconnected(voters []uint64) string {
	for _, id := range voters {
		st := s.members[id].net.Status()
		if n := st.Drops.Total(); n > 0 {
			s.fatalf("member %d gave Send %d messages that are for itself", id, n)
		}
		peers := st.Peers
		if len(peers) != len(voters)-1 {
			return fmt.Sprintf("member %d has %d peers", id, len(peers))
		}
		for _, p := range peers {
			if !p.Active {
				return fmt.Sprintf("member %d finds %d inactive", id, p.ID)
			}
			for _, l := range p.Lanes {
				if !l.Up || l.Queued > 0 {
					return fmt.Sprintf("lane %s from %d to %d: %+v", l.Name, id, p.ID, l)
				}
			}
		}
	}
	return ""
}
