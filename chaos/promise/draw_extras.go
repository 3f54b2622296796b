package promise

import (
	"math/rand/v2"
	"time"
)

// extra is a dimension that one plan in so many has, whatever else it has.
type extra struct {
	name  string
	oneIn int
	draw  func(*drawing)
}

// extras are all of them. The last is there only with the build tag faultpoints.
func extras() []extra {
	all := []extra{{"sockets", 4, drawSockets}, {"revocation", 10, drawRevocation}}
	if hasPoints {
		all = append(all, extra{"fault points", 2, func(d *drawing) { d.plan.Points = true }})
	}
	return all
}

// drawExtras draws from a source of its own, so that the rest of the plan of a seed is the same without them. So the plan
// of a seed with the build tag faultpoints is the one without, and perhaps Points.
func drawExtras(d *drawing) {
	own := &drawing{Rand: rand.New(rand.NewPCG(d.plan.Seed, 19)), plan: d.plan}
	for _, e := range extras() {
		if own.IntN(e.oneIn) == 0 {
			d.plan.On = append(d.plan.On, e.name)
			e.draw(own)
		}
	}
}

// drawSockets draws send buffers that are no larger than the window of a simple connection: what is in them goes before a link
// heartbeat, which on a slow line must not take the read timeout.
func drawSockets(d *drawing) {
	d.plan.Sockets = Buffers{Send: one(d, 32<<10, connWindow), Receive: one(d, 64<<10, 256<<10)}
}

func drawRevocation(d *drawing) {
	d.plan.TLS, d.plan.Revokes, d.plan.Recheck = true, true, time.Duration(1+d.IntN(5))*time.Second
	d.some(1, 2, func() { d.add(Event{Do: Revoke, How: one(d, "", "", "torn"), For: d.between(1, 15)}) })
}
