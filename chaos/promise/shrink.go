package promise

import (
	"reflect"
	"slices"
	"time"
)

// shrinking is a plan that fails, while it is made shorter.
type shrinking struct {
	Plan
	fails func(Plan) bool
}

// Shrink returns the shortest plan that it finds which fails as p does: without events, members, and what else it has that
// is not needed. fails reports whether a plan does; it is called up to tries times for each plan, since goroutines are
// scheduled as it comes.
func Shrink(p Plan, tries int, fails func(Plan) bool) Plan {
	s := &shrinking{p, func(q Plan) bool {
		for range tries {
			if fails(q) {
				return true
			}
		}
		return false
	}}
	for {
		before := s.String()
		s.dropEvents()
		s.dropGroups()
		s.dropMembers()
		s.dropFields()
		s.shortenTimes()
		if s.String() == before {
			return s.Plan
		}
	}
}

// try takes the plan with a change if it still fails.
func (s *shrinking) try(change func(*Plan)) bool {
	q := s.Plan
	q.Members, q.Events, q.NoDial, q.Groups = slices.Clone(q.Members), slices.Clone(q.Events), slices.Clone(q.NoDial), slices.Clone(q.Groups)
	change(&q)
	failed := s.fails(q)
	if failed {
		s.Plan = q
	}
	return failed
}

// dropEvents takes out events: halves of them, then quarters, and so on.
func (s *shrinking) dropEvents() {
	for part := len(s.Events); part > 0; part /= 2 {
		for at := 0; at < len(s.Events); {
			if !s.try(func(q *Plan) { q.Events = slices.Delete(q.Events, at, min(at+part, len(q.Events))) }) {
				at += part
			}
		}
	}
}

// dropMembers takes out members, the last ones first, as long as there are two: many at once where there are many.
func (s *shrinking) dropMembers() {
	for n := 2; n < len(s.Members); n += max(1, (len(s.Members)-n)/2) {
		if s.try(func(q *Plan) {
			for len(q.Members) > n {
				q.without(uint64(len(q.Members)))
			}
		}) {
			return
		}
	}
	for id := uint64(len(s.Members)); id > 0 && len(s.Members) > 2; id-- {
		s.try(func(q *Plan) { q.without(id) })
	}
}

// dropGroups takes out groups: all of them at once, or one after another, the last ones first.
func (s *shrinking) dropGroups() {
	if len(s.Groups) == 0 || s.try(func(q *Plan) {
		for len(q.Groups) > 0 {
			q.withoutGroup(uint64(len(q.Groups)))
		}
	}) {
		return
	}
	for n := uint64(len(s.Groups)); n > 0; n-- {
		s.try(func(q *Plan) { q.withoutGroup(n) })
	}
}

// withoutGroup takes out a group. Those behind it have the numbers before theirs then.
func (p *Plan) withoutGroup(n uint64) {
	p.Groups = slices.Delete(p.Groups, int(n)-1, int(n))
	p.Events = slices.DeleteFunc(p.Events, func(e Event) bool { return e.Group == n })
	for i := range p.Events {
		p.Events[i].Group = shifted(p.Events[i].Group, n)
	}
}

// without takes out a member. Those behind it have the ids before theirs then.
func (p *Plan) without(id uint64) {
	p.Members = slices.Delete(p.Members, int(id)-1, int(id))
	p.Events = slices.DeleteFunc(p.Events, func(e Event) bool { return e.A == id || e.B == id })
	p.NoDial = slices.DeleteFunc(p.NoDial, func(w Way) bool { return w.From == id || w.To == id })
	for i := range p.Events {
		p.Events[i].A, p.Events[i].B = shifted(p.Events[i].A, id), shifted(p.Events[i].B, id)
	}
	for i := range p.Groups {
		if g := &p.Groups[i]; g.Lacks == id {
			g.Lacks = 0
		} else {
			g.Lacks = shifted(g.Lacks, id)
		}
	}
	for i := range p.NoDial {
		p.NoDial[i].From, p.NoDial[i].To = shifted(p.NoDial[i].From, id), shifted(p.NoDial[i].To, id)
	}
}

// shifted returns the id of a member once another one is taken out.
func shifted(id, out uint64) uint64 {
	if id > out && id != nobody {
		return id - 1
	}
	return id
}

// dropFields sets to zero what the plan, the members, the events and the ways have.
func (s *shrinking) dropFields() {
	s.dropFieldsOf(func(q *Plan) reflect.Value { return reflect.ValueOf(q).Elem() }, "Seed", "Members", "Events", "NoDial", "Groups", "Length")
	for i := range s.Members {
		s.dropFieldsOf(func(q *Plan) reflect.Value { return reflect.ValueOf(&q.Members[i]).Elem() })
	}
	for i := range s.Events {
		s.dropFieldsOf(func(q *Plan) reflect.Value { return reflect.ValueOf(&q.Events[i]).Elem() }, "Do", "A", "B", "At", "Group")
	}
	for i := range s.Groups {
		s.dropFieldsOf(func(q *Plan) reflect.Value { return reflect.ValueOf(&q.Groups[i]).Elem() })
	}
	for i := len(s.NoDial) - 1; i >= 0; i-- {
		if !s.try(func(q *Plan) { q.NoDial = slices.Delete(q.NoDial, i, i+1) }) {
			s.dropFieldsOf(func(q *Plan) reflect.Value { return reflect.ValueOf(&q.NoDial[i]).Elem() }, "From", "To")
		}
	}
}

// dropFieldsOf does it with a struct of the plan, and with those in it of which something is needed.
func (s *shrinking) dropFieldsOf(of func(*Plan) reflect.Value, keep ...string) {
	for i := range of(&s.Plan).NumField() {
		field := func(q *Plan) reflect.Value { return of(q).Field(i) }
		f := field(&s.Plan)
		if f.IsZero() || slices.Contains(keep, of(&s.Plan).Type().Field(i).Name) {
			continue
		}
		if !s.try(func(q *Plan) { field(q).SetZero() }) && f.Kind() == reflect.Struct {
			s.dropFieldsOf(field)
		}
	}
}

// shortenTimes has events follow each other soon, and end soon, and the plan with the last.
func (s *shrinking) shortenTimes() {
	last := time.Duration(0)
	for i := range s.Events {
		soon := last + time.Second
		if early := soon - s.Events[i].At; early < 0 {
			s.try(func(q *Plan) {
				for j := i; j < len(q.Events); j++ {
					q.Events[j].At += early
				}
			})
		}
		last = s.Events[i].At
		for half := s.Events[i].For / 2; half >= time.Second; half /= 2 {
			if !s.try(func(q *Plan) { q.Events[i].For = half.Truncate(time.Millisecond) }) {
				break
			}
		}
	}
	if end := lastEvent(s.Plan); s.Length > end {
		s.try(func(q *Plan) { q.Length = end })
	}
}

// lastEvent returns when the last event has ended.
func lastEvent(p Plan) (d time.Duration) {
	for _, e := range p.Events {
		d = max(d, e.At+e.For)
	}
	return d + time.Second
}
