package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/seed-4d73690b/rafthttp/chaos/internal/network"
)

// faultsFor returns the faults that can be had with a cluster, and why others cannot.
func faultsFor(c *cluster) (faults []fault, missing []string) {
	faults = []fault{
		{"kill", kill}, {"kill all", killAll}, {"pause", pause},
		{"one-way cut", cutOneWay}, {"deaf or mute", deafOrMute}, {"partition", partition},
		{"delay", delay}, {"bandwidth", narrow},
		{"new certificate", newLeaf}, {"new authority", newAuthorities},
	}
	if c.sharded {
		faults = append(faults, fault{"moves of replicas", moveReplicas})
	} else {
		faults = append(faults, fault{"isolated leader", isolateLeader}, fault{"membership", changeMembership})
	}
	if c.network.packets() {
		faults = append(faults, fault{"loss", lose})
	} else {
		faults = append(faults, fault{"resets", resets})
		missing = append(missing, "loss of packets: needs network namespaces (connections are reset at random bytes instead)")
	}
	if c.limited {
		faults = append(faults, fault{"full disk", fillDisk})
	} else {
		missing = append(missing, "full disks: need a mount namespace")
	}
	if c.clock != nil {
		faults = append(faults, fault{"clock jump", jumpClock})
	} else {
		missing = append(missing, "clock jumps: the time package or the system is not as expected")
	}
	return faults, missing
}

// kill kills members as the power does, and keeps them down for some time.
func kill(n *nemesis) (string, func(), bool) {
	taken := n.take(n.some(size-1), "kill")
	return n.down(taken)
}

// killAll kills whoever runs, at once. They start again right away: nothing can be learned while nobody is there.
func killAll(n *nemesis) (string, func(), bool) {
	what, end, ok := n.down(n.take(size, "kill all"))
	end()
	return what, nil, ok
}

func (n *nemesis) down(taken []*member) (string, func(), bool) {
	for _, m := range taken {
		m.kill()
	}
	return names(taken), func() { releaseAll(taken) }, len(taken) > 0 // whoever is not held is started
}

func releaseAll(held []*member) {
	for _, m := range held {
		m.release()
	}
}

func pause(n *nemesis) (string, func(), bool) {
	taken := n.take(n.some(size), "pause")
	for _, m := range taken {
		m.signal(syscall.SIGSTOP)
	}
	return names(taken), func() {
		for _, m := range taken {
			m.signal(syscall.SIGCONT)
			m.release()
		}
	}, len(taken) > 0
}

// spoil makes all ways from one group to another worse.
func (n *nemesis) spoil(from, to []*member, c network.Conditions) (end func()) {
	var removes []func()
	for _, a := range from {
		for _, b := range to {
			if a != b {
				removes = append(removes, n.c.network.link(a.slot, b.slot).Add(c))
			}
		}
	}
	return func() {
		for _, remove := range removes {
			remove()
		}
	}
}

func cutOneWay(n *nemesis) (string, func(), bool) {
	all := n.everyone()
	return fmt.Sprintf("from %s to %s", all[0].name(), all[1].name()), n.spoil(all[:1], all[1:2], network.Conditions{Cut: true}), true
}

// deafOrMute cuts one member off in one direction: it hears nobody, or nobody hears it.
func deafOrMute(n *nemesis) (string, func(), bool) {
	all, cut := n.everyone(), network.Conditions{Cut: true}
	if n.rand.IntN(2) == 0 {
		return all[0].name() + " is deaf", n.spoil(all[1:], all[:1], cut), true
	}
	return all[0].name() + " is mute", n.spoil(all[:1], all[1:], cut), true
}

// split cuts all ways between two groups.
func (n *nemesis) split(a, b []*member) (string, func(), bool) {
	cut := network.Conditions{Cut: true}
	there, back := n.spoil(a, b, cut), n.spoil(b, a, cut)
	return fmt.Sprintf("%s | %s", names(a), names(b)), func() { there(); back() }, true
}

func partition(n *nemesis) (string, func(), bool) {
	all, k := n.everyone(), 1+n.rand.IntN(size-1)
	return n.split(all[:k], all[k:])
}

func isolateLeader(n *nemesis) (string, func(), bool) {
	l := n.leader()
	if l == nil {
		return "", nil, false
	}
	return n.split([]*member{l}, slices.DeleteFunc(n.everyone(), func(m *member) bool { return m == l }))
}

// leader returns the member that somebody takes for the leader.
func (n *nemesis) leader() *member {
	for _, m := range n.everyone() {
		var s status
		if m.running() == 0 || n.c.client.ask(context.Background(), m.client+"/status", &s) != nil {
			continue
		}
		for _, l := range n.c.members {
			if s.Leader == l.identity() {
				return l
			}
		}
	}
	return nil
}

// bad makes a random part of the network worse: one way, all ways to and from a member, or all.
func (n *nemesis) bad(c network.Conditions, what string) (string, func(), bool) {
	all := n.everyone()
	switch n.rand.IntN(3) {
	case 0:
		return fmt.Sprintf("%s from %s to %s", what, all[0].name(), all[1].name()), n.spoil(all[:1], all[1:2], c), true
	case 1:
		to, from := n.spoil(all[1:], all[:1], c), n.spoil(all[:1], all[1:], c)
		return fmt.Sprintf("%s to and from %s", what, all[0].name()), func() { to(); from() }, true
	default:
		return what + " everywhere", n.spoil(all, all, c), true
	}
}

func lose(n *nemesis) (string, func(), bool) {
	p := 0.01 + 0.29*n.rand.Float64()
	return n.bad(network.Conditions{Loss: p}, fmt.Sprintf("%.0f %% of packets lost", 100*p))
}

func resets(n *nemesis) (string, func(), bool) {
	bytes := int64(10_000 + n.rand.IntN(200_000))
	return n.bad(network.Conditions{Reset: bytes}, fmt.Sprintf("reset after up to %d bytes", bytes))
}

func delay(n *nemesis) (string, func(), bool) {
	d := n.logUniform(time.Millisecond, time.Second)
	return n.bad(network.Conditions{Delay: d}, fmt.Sprintf("%v late", d.Round(time.Millisecond)))
}

func narrow(n *nemesis) (string, func(), bool) {
	rate := 1000 << n.rand.IntN(11) // 1 kB to 1 MB a second
	return n.bad(network.Conditions{Rate: rate}, fmt.Sprintf("%d B/s", rate))
}

// fillDisk takes nearly all that is left of a member's disk, or all of it.
func fillDisk(n *nemesis) (string, func(), bool) {
	taken := n.take(1, "full disk")
	if len(taken) == 0 {
		return "", nil, false
	}
	m, left := taken[0], []int64{0, 0, 0, 64 << 10, 1 << 20}[n.rand.IntN(5)]
	m.setFull(true)
	filler := filepath.Join(m.dataDir(), "filler")
	if err := fill(filler, left); !errors.Is(err, syscall.ENOSPC) {
		n.c.violated(fmt.Errorf("the test is wrong: a disk is not full: %w", errOr(err, "no error")))
	}
	// If it has ended over this, it is not much better off when it starts again.
	timer := time.AfterFunc(2*time.Second, func() {
		if m.running() == 0 {
			_ = m.start()
		}
	})
	return fmt.Sprintf("%s, but for %d bytes", m.name(), left), func() {
		timer.Stop()
		if err := os.Remove(filler); err != nil {
			n.c.violated(err)
		}
		m.setFull(false)
		m.release()
	}, true
}

// fill writes a file until the disk is full, and then gives back some bytes.
func fill(path string, left int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	var n int64
	for chunk := make([]byte, 1<<16); len(chunk) > 0; {
		var w int
		w, err = f.Write(chunk)
		n += int64(w)
		if err != nil {
			chunk = chunk[:len(chunk)/2]
		}
	}
	if terr := f.Truncate(max(0, n-left)); terr != nil {
		return terr
	}
	return err
}

// jumpClock sets the time of day of a member forward or back, by up to two days.
func jumpClock(n *nemesis) (string, func(), bool) {
	m, by := n.everyone()[0], n.logUniform(100*time.Millisecond, 48*time.Hour)
	if n.rand.IntN(2) == 0 {
		by = -by
	}
	m.setClock(by)
	return fmt.Sprintf("%s by %v", m.name(), by.Round(time.Millisecond)), func() { m.setClock(0) }, true
}

func newLeaf(n *nemesis) (string, func(), bool) {
	m := n.everyone()[0]
	return m.name(), nil, n.rotate(func() error { return n.c.certs.rotateLeaf(m.slot) })
}

func newAuthorities(n *nemesis) (string, func(), bool) {
	return "old, both, new", nil, n.rotate(func() error {
		return n.c.certs.rotateAuthority(func() { time.Sleep(2 * tlsRecheck) })
	})
}

// rotate changes certificates in the background, unless that is being done.
func (n *nemesis) rotate(do func() error) bool {
	if !n.c.certs.mu.TryLock() {
		return false
	}
	n.background.Go(func() {
		defer n.c.certs.mu.Unlock()
		if err := do(); err != nil {
			n.c.violated(err)
		}
	})
	return true
}

// changeMembership removes a member from the cluster. If that is known to have happened, it loses its data and comes back
// under another id; if it is not, it may learn of its removal later, and then does the same.
func changeMembership(n *nemesis) (string, func(), bool) {
	if !n.changing.TryLock() {
		return "", nil, false
	}
	taken := n.take(1, "membership")
	if len(taken) == 0 {
		n.changing.Unlock()
		return "", nil, false
	}
	m, through := taken[0], n.c.another(taken[0])
	if through == nil {
		m.release()
		n.changing.Unlock()
		return "", nil, false
	}
	id := m.identity()
	n.background.Go(func() {
		defer n.changing.Unlock()
		defer m.release()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		a, err := n.c.client.do(ctx, http.MethodDelete, fmt.Sprintf("%s/members/%d", through.client, id), "")
		if err == nil {
			err = a.err()
		}
		n.c.note("removal of %d through member %s: %v", id, through.name(), err)
		if err == nil {
			m.kill()
			m.setRemoved()
		}
	})
	return fmt.Sprintf("%s (id %d) goes, and comes back", m.name(), id), nil, true
}
