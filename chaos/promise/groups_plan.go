package promise

import (
	"math/rand/v2"
	"time"
)

// Group is a raft group of the members. The zero value is one of all members, whose replicas have the ids of their nodes.
type Group struct {
	Lacks uint64 // the member that does not have it, and which the others take for a replica; 0: all have it
	Own   bool   // replicas have ids of their own
	Saver string // of databases: "" resumes, "plain" does not, "none"
	Load  Load
}

// Actions of raft groups.
const (
	GroupBlock    Action = "group block"    // Process of Group at A stands still for the kind How; "slow": takes long, for all kinds
	GroupStop     Action = "group stop"     // Group at A stops, and is joined again after For, with another id if it has ids of its own; How "busy": while callbacks run
	GroupRemove   Action = "group remove"   // A removes the replica of Group at B, and adds it again after For; How "busy": at once, while its messages are processed
	GroupMove     Action = "group move"     // A moves the replica of Group at B to a node that does not run, and back
	GroupLeave    Action = "group leave"    // the replica of Group at A is removed by all others, told so, and joins as another one
	GroupGhost    Action = "group ghost"    // A sends to a replica of Group that B does not have
	GroupBurst    Action = "group burst"    // N messages of the kind How from A to B in Group, of Size bytes
	GroupSnapshot Action = "group snapshot" // from A to B in Group, of N bytes; How "twins": in the next group as well, with the same index and size
	GroupPost     Action = "group post"     // a MsgSnap without a database from A to B in Group
)

// groupActions are all of them.
var groupActions = append([]Action{GroupMove}, drawnOften...)

// drawnOften are those that a plan has several of.
var drawnOften = []Action{GroupBlock, GroupStop, GroupRemove, GroupLeave, GroupGhost, GroupBurst, GroupSnapshot, GroupPost}

// drawGroups has one plan in three have raft groups, whatever else it has. They are drawn from a source of their own, so that the rest
// of the plan of a seed does not depend on them, except that members may become stock ones, and have a GroupReceiver.
func drawGroups(d *drawing) {
	own := &drawing{Rand: rand.New(rand.NewPCG(d.plan.Seed, 20)), plan: d.plan}
	if own.IntN(3) > 0 {
		return
	}
	d.plan.On = append(d.plan.On, dimensionGroups)
	d.plan.NoRaft = own.IntN(4) == 0
	for range one(own, 1, 3, 3, 20) {
		d.plan.Groups = append(d.plan.Groups, own.group())
	}
	if receivers := own.IntN(4) == 0; receivers {
		own.lives(func(o *Options) { o.Receiver = own.maybe() })
	}
	if own.IntN(6) == 0 {
		d.plan.Members[own.IntN(len(d.plan.Members))].Stock = true
	}
	own.some(3, 8, own.groupEvent)
	if own.IntN(4) == 0 {
		own.groupInterrupted()
	}
	if own.maybe() {
		own.some(1, 3, func() { own.add(Event{Do: GroupMove, Group: uint64(own.IntN(len(own.plan.Groups))) + 1}) })
	}
}

// dimensionGroups is the name of the dimension.
const dimensionGroups = "raft groups"

// group draws a group.
func (d *drawing) group() (g Group) {
	g.Own = d.maybe()
	g.Saver = one(d, "", "", "", "", "plain", "plain", "none")
	if d.IntN(4) == 0 {
		g.Lacks = uint64(d.IntN(len(d.plan.Members))) + 1
	}
	if d.maybe() {
		g.Load = Load{Appends: d.IntN(6), Proposals: d.IntN(4), Size: 1 << (3 + d.IntN(7))}
	}
	return g
}

// lives calls f with how members run in each of their lives.
func (d *drawing) lives(f func(*Options)) {
	for i := range d.plan.Members {
		f(&d.plan.Members[i])
	}
	for i := range d.plan.Events {
		if e := &d.plan.Events[i]; e.Do == End || e.Do == Stranger {
			f(&e.Life)
		}
	}
}

// groupEvent draws what happens to a group.
func (d *drawing) groupEvent() {
	e := Event{Do: one(d, append(drawnOften, GroupSnapshot, GroupSnapshot, GroupGhost)...), Group: uint64(d.IntN(len(d.plan.Groups))) + 1}
	switch e.Do {
	case GroupBlock:
		e.How, e.For = one(d, "control", "control", "append", "proposal", "slow"), d.between(1, 15)
	case GroupStop:
		e.How, e.For = one(d, "", "busy", "busy"), d.between(0, 8)
	case GroupRemove:
		e.For, e.How = d.between(0, 8), one(d, "", "busy")
	case GroupLeave:
		d.plan.Groups[e.Group-1].Own = true
	case GroupBurst:
		e.N, e.Size, e.How = 16<<d.IntN(5), 1<<(4+d.IntN(8)), one(d, "append", "append", "proposal")
	case GroupSnapshot:
		e.N, e.How = d.size(), one(d, "seeks", "plain", "twins")
	}
	d.add(e)
	switch last := &d.plan.Events[len(d.plan.Events)-1]; e.Do {
	case GroupBlock, GroupStop, GroupLeave:
		last.B = 0
	}
}

// groupInterrupted draws a snapshot of a group, and what breaks it.
func (d *drawing) groupInterrupted() {
	d.interrupted("seeks")
	snapshot := &d.plan.Events[len(d.plan.Events)-2]
	snapshot.Do, snapshot.Group = GroupSnapshot, uint64(d.IntN(len(d.plan.Groups)))+1
	d.plan.Groups[snapshot.Group-1].Saver = ""
}

// heartbeatTicks is after how many ticks each group sends heartbeats: all of them together cost little more than a few.
func (p *Plan) heartbeatTicks() int {
	switch n := len(p.Groups); {
	case n > 3:
		return 5
	case n > 1:
		return 2
	}
	return 1
}

// groupLoadGoing is how long groups have load after all is mended.
const groupLoadGoing = 5 * time.Second

// coveredOfGroups returns the counters of groups that must not be 0 in a larger number of runs.
func coveredOfGroups() []string {
	names := []string{"dimension " + dimensionGroups, "plans with 1 groups", "plans with 3 groups", "plans with 20 groups", "plans with NoRaft"}
	for _, name := range []string{
		"joined", "joined again", "stock members", "receivers", "messages of receivers", "messages of unknown groups", "messages processed", "messages reported",
		"messages dropped by the receiver", "refused", "ghosts", "told of their removal", "snapshots sent", "snapshots processed", "snapshots resumed", "snapshots of plain savers", "equal snapshots",
	} {
		names = append(names, ofGroups+name)
	}
	for _, judge := range []string{
		"send", "reported", "order", "once", "invented", "addressee", "snapshot ends", "snapshot bytes", "snapshot arrives", "noticed", "removed", "stop", "silence", "isolation",
	} {
		names = append(names, ofGroups+"checked "+judge)
	}
	return names
}
