package network

import (
	"errors"

	"github.com/seed-4d73690b/rafthttp/memnet/faultproxy"
)

// Proxies have each member reach each other one through a TCP proxy of its own, so that every way between two is known
// by the connections it is of. They lose no packets: they lose bytes and reset connections.
type Proxies struct {
	proxies [][]*faultproxy.Proxy // [dialler][target]; nil on the diagonal
	links   [][]*Link
}

// NewProxies makes the proxies for members that listen on these addresses.
func NewProxies(targets []string, seed uint64) (*Proxies, error) {
	p := &Proxies{}
	for from := range targets {
		row := make([]*faultproxy.Proxy, len(targets))
		p.proxies = append(p.proxies, row)
		for to, target := range targets {
			if to == from {
				continue
			}
			var err error
			if row[to], err = faultproxy.Listen("127.0.0.1:0", target, faultproxy.WithSeed(seed+uint64(from*len(targets)+to))); err != nil {
				return nil, errors.Join(err, p.Close())
			}
		}
	}
	for from := range targets {
		row := make([]*Link, len(targets))
		for to := range targets {
			if to != from {
				row[to] = p.link(from, to)
			}
		}
		p.links = append(p.links, row)
	}
	return p, nil
}

// link is the way from one member to another: there on the connections that the first has dialled, and back on those of
// the second.
func (p *Proxies) link(from, to int) *Link {
	directions := []*faultproxy.Direction{p.proxies[from][to].ToTarget(), p.proxies[to][from].ToClient()}
	var now Conditions
	return NewLink(func(c Conditions) {
		for _, d := range directions {
			if c.Cut != now.Cut {
				if c.Cut {
					d.Cut()
				} else {
					d.Mend()
				}
			}
			if c.Reset != now.Reset {
				d.CutAfter(c.Reset)
			}
			d.SetDelay(c.Delay)
			d.SetBandwidth(c.Rate)
		}
		now = c
	})
}

// Address returns where one member reaches another.
func (p *Proxies) Address(from, to int) string { return p.proxies[from][to].Addr() }

// Link returns the way from one member to another.
func (p *Proxies) Link(from, to int) *Link { return p.links[from][to] }

// Close ends all proxies.
func (p *Proxies) Close() error {
	var errs []error
	for _, row := range p.proxies {
		for _, proxy := range row {
			if proxy != nil {
				errs = append(errs, proxy.Close())
			}
		}
	}
	return errors.Join(errs...)
}
