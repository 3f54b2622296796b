package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"

	"github.com/seed-4d73690b/rafthttp/chaos/internal/network"
)

const (
	peerPort   = 2380
	clientPort = 2379
)

// proxied is members on the loopback interface that reach each other through proxies: for machines where a process may not
// make network namespaces.
type proxied struct {
	addresses []string // of the members: for peers, and for clients from size on
	proxies   *network.Proxies
	work      chan func() // to the thread that processes are tied to
}

func newProxied(seed uint64) (*proxied, error) {
	addresses, err := freeAddresses(2 * size)
	if err != nil {
		return nil, err
	}
	proxies, err := network.NewProxies(addresses[:size], seed)
	if err != nil {
		return nil, err
	}
	p := &proxied{addresses: addresses, proxies: proxies, work: make(chan func())}
	go func() {
		runtime.LockOSThread() // see procAttr
		for f := range p.work {
			f()
		}
	}()
	return p, nil
}

// freeAddresses returns addresses that nobody listens on, below those that systems take for outgoing connections: one of
// these could take one while its member is down.
func freeAddresses(n int) (addresses []string, err error) {
	var open []net.Listener // so that none is taken twice
	for range 100 * n {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(22_000)))
		if err != nil {
			continue
		}
		open, addresses = append(open, l), append(addresses, l.Addr().String())
		if len(addresses) == n {
			break
		}
	}
	var errs []error
	for _, l := range open {
		errs = append(errs, l.Close())
	}
	if len(addresses) < n {
		errs = append(errs, errors.New("no free ports on the loopback interface"))
	}
	return addresses, errors.Join(errs...)
}

func (p *proxied) do(_ int, f func()) {
	done := make(chan struct{})
	p.work <- func() {
		defer close(done)
		f()
	}
	<-done
}

func (p *proxied) urls(slot int) (host, peer, client string) {
	return "127.0.0.1", "https://" + p.addresses[slot], "http://" + p.addresses[size+slot]
}

func (p *proxied) flags(slot int) (flags []string) {
	for to := range size {
		if to != slot {
			flags = append(flags, "-peer-route", "https://"+p.addresses[to]+"=https://"+p.proxies.Address(slot, to))
		}
	}
	return flags
}

func (p *proxied) link(from, to int) *network.Link     { return p.proxies.Link(from, to) }
func (p *proxied) counts() string                      { return "" }
func (p *proxied) packets() bool                       { return false }
func (p *proxied) disk(string) (limited bool, _ error) { return false, nil }

func (p *proxied) close() error {
	close(p.work)
	return p.proxies.Close()
}
