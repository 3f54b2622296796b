package promise

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"
)

// dimension is a kind of trouble that a plan has, or not.
type dimension struct {
	name   string
	life   func(*drawing, *Options) // draws how a member runs; nil: it does not matter
	events func(*drawing)           // draws what happens; nil: nothing
}

// dimensions are all of them.
var dimensions = []dimension{
	{"extension", lifeExtension, eventsSnapshots},
	{"readers", nil, eventsReaders},
	{"one-way dial", nil, eventsNoDial},
	{"wrappers", lifeWrapper, eventsSnapshots},
	{"server", lifeServer, eventsSnapshots},
	{"slow callbacks", lifeSlow, eventsHangs},
	{"blocked Process", nil, eventsBlocks},
	{"disk", lifeDisk, eventsDisk},
	{"small bounds", lifeBounds, eventsBounds},
	{"unequal sizes", lifeSizes, eventsLarge},
	{"groups", lifeGroups, eventsBursts},
	{"resends", lifeResends, eventsResends},
	{"slow links", nil, eventsSlow},
	{"cuts", nil, eventsCuts},
	{"restarts", nil, eventsRestarts},
	{"strangers", nil, eventsStrangers},
	{"membership", nil, eventsPeers},
	{"leave", nil, eventsLeave},
	{"posted snapshots", nil, eventsPosts},
	{"forgeries", nil, eventsForge},
	{"TLS", nil, eventsTLS},
	{"narrow lines", nil, eventsNarrow},
	{"rates", lifeRates, eventsSnapshots},
}

// drawing is a plan while it is drawn.
type drawing struct {
	*rand.Rand
	plan *Plan
	on   []dimension
}

// Draw returns the plan of a seed.
func Draw(seed uint64) Plan {
	d := &drawing{Rand: rand.New(rand.NewPCG(seed, 17)), plan: &Plan{Seed: seed}}
	d.plan.Length = d.between(15, 35)
	d.plan.Members = make([]Options, 2+d.IntN(3))
	if d.IntN(4) > 0 {
		d.plan.Load = Load{Appends: d.IntN(20), Proposals: d.IntN(10), Size: 1 << (3 + d.IntN(10))}
	}
	d.choose()
	for i := range d.plan.Members {
		d.plan.Members[i] = d.life()
	}
	for _, dim := range d.on {
		if dim.events != nil {
			dim.events(d)
		}
	}
	drawExtras(d)
	drawGroups(d)
	drawScenes(d)
	slices.SortStableFunc(d.plan.Events, func(a, b Event) int { return cmp.Compare(a.At, b.At) })
	return *d.plan
}

// lineTime is how long lines need for all bursts of the plan.
func (p *Plan) lineTime() time.Duration {
	if p.Rate == 0 {
		return 0
	}
	bytes := 0
	for _, e := range p.Events {
		if e.Do == Burst {
			bytes += e.N * e.Size
		}
	}
	return 2 * time.Duration(bytes) * time.Second / time.Duration(p.Rate)
}

// choose switches dimensions on: one alone in a quarter of all plans, else two to five.
func (d *drawing) choose() {
	n := 1
	if d.IntN(4) > 0 {
		n = 2 + d.IntN(4)
	}
	for _, i := range d.Perm(len(dimensions))[:n] {
		d.on = append(d.on, dimensions[i])
		d.plan.On = append(d.plan.On, dimensions[i].name)
	}
}

// life draws how a member runs.
func (d *drawing) life() (o Options) {
	for _, dim := range d.on {
		if dim.life != nil {
			dim.life(d, &o)
		}
	}
	return o
}

func (d *drawing) maybe() bool { return d.IntN(2) == 0 }

// between draws a number of seconds, to the millisecond.
func (d *drawing) between(least, most int) time.Duration {
	return time.Duration(least*1000+d.IntN((most-least)*1000)) * time.Millisecond
}

// one draws one of some.
func one[T any](d *drawing, of ...T) T { return of[d.IntN(len(of))] }

// pair draws two members.
func (d *drawing) pair() (a, b uint64) {
	ids := d.Perm(len(d.plan.Members))
	return uint64(ids[0]) + 1, uint64(ids[1]) + 1
}

// add adds an event at a random time, between two random members.
func (d *drawing) add(e Event) {
	e.At = time.Duration(1000+d.IntN(int(d.plan.Length/time.Millisecond)-1000)) * time.Millisecond
	e.A, e.B = d.pair()
	switch e.Do {
	case End, Block, HangLog, HangHook, FullDisk, Stranger, Leave, Rotate, Revoke:
		e.B = 0
	case Distrust: // members with an odd id have VerifyPeer
		if e.A%2 == 0 {
			e.A, e.B = e.B, e.A
		}
		if e.A%2 == 0 {
			e.A = 1
		}
	}
	d.plan.Events = append(d.plan.Events, e)
}

// some calls f some times.
func (d *drawing) some(least, most int, f func()) {
	for range least + d.IntN(most-least+1) {
		f()
	}
}

func lifeExtension(d *drawing, o *Options) {
	o.Saver = one(d, "", "", "plain", "careless", "store", "none")
	o.Stock = d.IntN(3) == 0
}

func lifeServer(d *drawing, o *Options) {
	o.NewServer = d.maybe()
	o.NoKeepAlive = d.IntN(3) == 0
}

// lifeGroups has some queues be so small that bursts of a group's appends find no room.
func lifeGroups(d *drawing, o *Options) {
	o.Groups = d.IntN(3) > 0
	o.SendQueue = one(d, 0, 16, 64)
}

func lifeResends(d *drawing, o *Options) {
	o.Resends, o.Groups = true, false
	o.SendQueue = one(d, 16, 64, 0)
}

// eventsResends has queues overflow, and what is under way be lost.
func eventsResends(d *drawing) {
	if d.plan.Load.Appends == 0 {
		d.plan.Load = Load{Appends: 5 + d.IntN(20), Size: 1 << (6 + d.IntN(7))}
	}
	eventsBursts(d)
	d.some(1, 3, func() { d.add(Event{Do: one(d, Reset, Narrow), N: 4096 << d.IntN(4), For: d.between(1, 6)}) })
}

func lifeWrapper(d *drawing, o *Options) {
	o.Wrapper = one(d, "", "no hijack", "no flush", "no deadlines", "bare")
}

func lifeSlow(d *drawing, o *Options) {
	o.SlowLog = one(d, 0, 100*time.Millisecond, time.Second)
	o.SlowHooks = one(d, 0, 100*time.Millisecond, time.Second)
}

func lifeDisk(d *drawing, o *Options) {
	o.DiskHang = one(d, 0, 0, d.between(1, 5), d.between(5, 60))
	o.Torn = d.maybe()
	o.AnswerTimeout = one(d, 0, 0, 3*time.Second)
}

func lifeBounds(d *drawing, o *Options) {
	o.MaxQueuedBytes = one[int64](d, 0, 256<<10, 1<<20)
	o.SendQueue = one(d, 0, 16, 128)
	o.ReceiveQueue = one(d, 0, 64, 256)
	o.MaxSnapshots = one(d, 0, 1)
}

func lifeSizes(d *drawing, o *Options) { o.MaxMessageBytes = one[int64](d, 0, 64<<10, 256<<10) }

func lifeRates(d *drawing, o *Options) { o.SnapshotRate = one(d, 0, 64<<10, 1<<20) }

// size draws that of a database.
func (d *drawing) size() int { return 2 + d.IntN(1<<(10+d.IntN(11))) }

func eventsSnapshots(d *drawing) {
	d.some(1, 4, func() { d.add(Event{Do: Snapshot, N: d.size(), How: one(d, "seeks", "plain")}) })
	if d.IntN(4) == 0 {
		d.add(Event{Do: Snapshot, N: 10, How: "seeks"})
		d.plan.Events[len(d.plan.Events)-1].B = nobody
	}
	if d.maybe() {
		d.some(1, 2, func() { d.add(Event{Do: Reset}) })
	}
}

func eventsReaders(d *drawing) {
	d.some(2, 6, func() {
		d.add(Event{Do: Snapshot, N: d.size(), How: one(d, "seeks", "plain", "slow", "slow, seeks", "file", "decrypts", "panics", "short", "long", "twins", "stalls", "close hangs")})
	})
	d.some(0, 2, func() { d.interrupted(one(d, "seeks", "plain", "slow", "slow, seeks", "file", "decrypts")) })
}

// interrupted adds a snapshot, and what breaks it.
func (d *drawing) interrupted(how string) {
	d.add(Event{Do: Snapshot, N: 1 << 20, How: how})
	last := d.plan.Events[len(d.plan.Events)-1]
	if d.plan.Rate == 0 {
		d.plan.Rate = 512 << 10
	}
	last.Do, last.N, last.How = one(d, Reset, Reset, Cut), 0, ""
	last.At += time.Duration(100+d.IntN(2000)) * time.Millisecond
	if last.Do == Cut {
		last.For = d.between(1, 12)
	}
	d.plan.Events = append(d.plan.Events, last)
}

func eventsNoDial(d *drawing) {
	a, b := d.pair()
	d.plan.NoDial = append(d.plan.NoDial, Way{a, b, d.maybe()})
	d.some(0, 2, func() { d.add(Event{Do: Snapshot, N: d.size(), How: "seeks"}) })
	if d.maybe() {
		d.some(1, 2, func() { d.add(Event{Do: Block, For: d.between(1, 10), How: one(d, kindNames[:]...)}) })
	}
}

func eventsHangs(d *drawing) {
	d.some(1, 3, func() { d.add(Event{Do: one(d, HangLog, HangHook), For: d.between(1, 20)}) })
	d.some(0, 2, func() { d.add(Event{Do: Reset}) })
}

func eventsBlocks(d *drawing) {
	d.some(1, 3, func() { d.add(Event{Do: Block, For: d.between(1, 15), How: one(d, kindNames[:]...)}) })
}

func eventsDisk(d *drawing) {
	d.some(1, 3, func() { d.interrupted(one(d, "seeks", "file", "plain")) })
	d.some(0, 1, func() { d.add(Event{Do: FullDisk, For: d.between(1, 10)}) })
	d.some(1, 2, func() { d.add(Event{Do: Snapshot, N: d.size(), How: "seeks"}) })
}

func eventsBursts(d *drawing) {
	d.some(1, 4, func() {
		d.add(Event{Do: Burst, N: 16 << d.IntN(6), Size: 1 << (4 + d.IntN(9)), How: one(d, "append", "append", "proposal")})
	})
}

// eventsBounds has one burst that no small MaxQueuedBytes has room for.
func eventsBounds(d *drawing) {
	eventsBursts(d)
	d.add(Event{Do: Burst, N: 256, Size: 4096, How: one(d, "append", "proposal")})
}

func eventsLarge(d *drawing) {
	d.some(1, 3, func() {
		d.add(Event{Do: Burst, N: 1 + d.IntN(3), Size: 1 << (15 + d.IntN(5)), How: one(d, "append", "append", "proposal")})
	})
}

func eventsSlow(d *drawing) {
	d.plan.Delay = time.Duration(d.IntN(81)) * time.Millisecond
	d.plan.Rate = one(d, 0, 512<<10, 4<<20)
	d.some(0, 2, func() { d.add(Event{Do: Slow, N: 100 + d.IntN(900), For: d.between(1, 10)}) })
	d.some(0, 2, func() { d.add(Event{Do: Narrow, N: one(d, 1, 1<<(8+d.IntN(9))), For: d.between(1, 20)}) })
	d.some(0, 2, func() { d.add(Event{Do: Snapshot, N: d.size(), How: one(d, "seeks", "plain")}) })
}

// eventsNarrow has more sent than the lines carry, for which they have to lose no heartbeat, and no stream.
func eventsNarrow(d *drawing) {
	d.plan.Rate = 48<<10 + d.IntN(64<<10)
	d.plan.Load.Appends, d.plan.Load.Proposals = min(5, d.plan.Load.Appends), min(5, d.plan.Load.Proposals)
	d.plan.Load.Size = min(512, d.plan.Load.Size)
	d.some(1, 2, func() {
		size := 16 << (10 + d.IntN(3))
		d.add(Event{Do: Burst, N: 1 + d.IntN(4), Size: size, How: "proposal"})
		d.add(Event{Do: Burst, N: 1 + d.IntN(4), Size: 8 * size, How: "append"})
	})
	d.some(0, 1, func() { d.add(Event{Do: Burst, N: 256, Size: 1024, How: one(d, "append", "proposal")}) })
	d.some(0, 1, func() { d.add(Event{Do: Snapshot, N: 1 << 20, How: "seeks"}) })
}

func eventsCuts(d *drawing) {
	d.some(1, 5, func() {
		e := Event{Do: one(d, Cut, Cut, HalfOpen, HalfOpen, Reset)}
		if e.Do == Cut {
			e.For = d.between(1, 20)
		}
		d.add(e)
	})
	if d.IntN(6) == 0 { // one that lasts
		d.add(Event{Do: Cut, For: d.between(60, 80)})
		d.plan.Length += time.Minute
	}
}

func eventsRestarts(d *drawing) {
	d.some(1, 3, func() {
		d.add(Event{Do: End, How: one(d, "stop", "crash", "power"), For: d.between(0, 15), Life: d.life()})
	})
}

func eventsStrangers(d *drawing) {
	d.some(1, 2, func() {
		how := one(d, "200", "403", "404", "410", "502", "silence", "another member", "mute", "flickers")
		d.add(Event{Do: Stranger, How: how, For: d.between(2, 15), Life: d.life()})
	})
}

func eventsPeers(d *drawing) {
	d.some(1, 4, func() { d.add(Event{Do: one(d, Pause, Remove, Update), For: d.between(0, 8)}) })
}

func eventsLeave(d *drawing) {
	if len(d.plan.Members) > 2 {
		d.add(Event{Do: Leave})
	}
}

func eventsPosts(d *drawing) { d.some(1, 8, func() { d.add(Event{Do: Post}) }) }

func eventsForge(d *drawing) {
	d.some(1, 4, func() { d.add(Event{Do: Forge, How: one(d, "forget leader", "local thread")}) })
}

func eventsTLS(d *drawing) {
	d.plan.TLS, d.plan.Verify = true, d.IntN(4) > 0
	d.some(0, 2, func() { d.add(Event{Do: Rotate, How: one(d, "", "torn")}) })
	if d.plan.Verify {
		d.plan.Recheck = time.Duration(1+d.IntN(3)) * time.Second
		d.some(1, 3, func() { d.add(Event{Do: Distrust, For: d.between(1, 12)}) })
		d.some(0, 1, func() { d.add(Event{Do: Snapshot, N: d.size(), How: "seeks"}) })
	}
}

// DrawStar returns the plan of a star: one member with many peers, which do not know each other.
func DrawStar(seed uint64, peers int) Plan {
	d := &drawing{Rand: rand.New(rand.NewPCG(seed, 18)), plan: &Plan{Seed: seed, Star: true}}
	d.plan.Length = d.between(10, 20)
	d.plan.Members = make([]Options, peers+1)
	d.plan.Load = Load{Proposals: 1, Size: 100}
	d.plan.Members[0].MaxQueuedBytes = one[int64](d, 0, 8<<20)
	for range 3 {
		hub, spoke := uint64(1), uint64(2+d.IntN(peers))
		e := Event{At: d.between(1, 8), A: hub, B: spoke}
		switch d.IntN(4) {
		case 0:
			e.Do, e.For = Cut, d.between(1, 10)
		case 1:
			e.Do, e.N, e.How = Snapshot, d.size(), "seeks"
		case 2:
			e.Do = Reset
		case 3:
			e.Do, e.A, e.B, e.How, e.For = End, spoke, 0, "crash", d.between(1, 5)
		}
		d.plan.Events = append(d.plan.Events, e)
	}
	slices.SortStableFunc(d.plan.Events, func(a, b Event) int { return cmp.Compare(a.At, b.At) })
	return *d.plan
}
