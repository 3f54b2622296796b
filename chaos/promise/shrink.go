package promise

import (
	"reflect"
	"slices"
	"time"
)

// Shrink returns the shortest plan that it finds which fails as p does: without events, members, and what else it has that
// is not needed. fails reports whether a plan does; it is called up to tries times for each plan, since goroutines are
// scheduled as it comes.
func Shrink(p Plan, tries int, fails func(Plan) bool) Plan {
	try := func(q Plan) bool {
		for range tries {
			if fails(q) {
				return true
			}
		}
		return false
	}
	for {
		before := p.String()
		p = shrinkEvents(p, try)
		p = shrinkMembers(p, try)
		p = shrinkFields(p, try)
		if p.String() == before {
			return p
		}
	}
}

// shrinkEvents takes out events: halves of them, then quarters, and so on.
func shrinkEvents(p Plan, fails func(Plan) bool) Plan {
	for part := len(p.Events); part > 0; part /= 2 {
		for at := 0; at < len(p.Events); {
			q := p
			q.Events = slices.Delete(slices.Clone(p.Events), at, min(at+part, len(p.Events)))
			if fails(q) {
				p = q
			} else {
				at += part
			}
		}
	}
	return p
}

// shrinkMembers takes out the last members, as long as there are two.
func shrinkMembers(p Plan, fails func(Plan) bool) Plan {
	for n := 2; n < len(p.Members); n += max(1, (len(p.Members)-n)/2) {
		q := p
		last := uint64(n)
		q.Members = p.Members[:n:n]
		q.Events = slices.DeleteFunc(slices.Clone(p.Events), func(e Event) bool { return e.A > last || e.B > last })
		q.NoDial = slices.DeleteFunc(slices.Clone(p.NoDial), func(w Way) bool { return w.From > last || w.To > last })
		if fails(q) {
			return q
		}
	}
	return p
}

// shrinkFields sets to zero what the plan, the members and the events have.
func shrinkFields(p Plan, fails func(Plan) bool) Plan {
	clone := func() Plan {
		q := p
		q.Members, q.Events, q.NoDial = slices.Clone(p.Members), slices.Clone(p.Events), slices.Clone(p.NoDial)
		return q
	}
	zero := func(of func(*Plan) reflect.Value, keep ...string) {
		for i := range of(&p).NumField() {
			q := clone()
			f := of(&q).Field(i)
			if f.IsZero() || slices.Contains(keep, of(&q).Type().Field(i).Name) {
				continue
			}
			f.SetZero()
			if fails(q) {
				p = q
			}
		}
	}
	zero(func(q *Plan) reflect.Value { return reflect.ValueOf(q).Elem() }, "Seed", "Members", "Length")
	if q := clone(); p.Length > lastEvent(p) {
		if q.Length = lastEvent(p); fails(q) {
			p = q
		}
	}
	for i := range p.Members {
		zero(func(q *Plan) reflect.Value { return reflect.ValueOf(&q.Members[i]).Elem() })
	}
	for i := range p.Events {
		zero(func(q *Plan) reflect.Value { return reflect.ValueOf(&q.Events[i]).Elem() }, "Do", "A", "B", "At")
	}
	return p
}

// lastEvent returns when the last event has ended.
func lastEvent(p Plan) (d time.Duration) {
	for _, e := range p.Events {
		d = max(d, e.At+e.For)
	}
	return d + time.Second
}
