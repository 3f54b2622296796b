package network

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	device = "chaos0"
	mtu    = 1500
	outer  = 0 // the port of the process itself
)

// subnet is where all ports are; nobody else is in these namespaces.
var subnet = [3]byte{10, 77, 0}

// Switch is network namespaces, one for each member and the one of the process itself, with a TUN device in each. What
// goes from one to another passes through the process, packet by packet: it loses, delays and holds back what it is told
// to, and each way between two is a way of its own. The kernels' TCP does the rest.
//
// Everything is gone when the process is.
type Switch struct {
	ports []*port // 0 is the process's own
	ways  [][]*way
	links [][]*Link
	done  chan struct{}
	wg    sync.WaitGroup
}

// port is a namespace, the device in it, and a thread that is in it.
type port struct {
	device *os.File
	work   chan func()
}

// NewSwitch makes namespaces for n members. The process must be in a network namespace of its own, and may have to be root
// there.
func NewSwitch(n int, seed uint64) (*Switch, error) {
	s := &Switch{done: make(chan struct{})}
	for i := range n + 1 {
		p, err := newPort(i)
		if err != nil {
			_ = s.Close()
			return nil, fmt.Errorf("network namespace %d: %w", i, err)
		}
		s.ports = append(s.ports, p)
	}
	for from := range s.ports {
		var ways []*way
		var links []*Link
		for to := range s.ports {
			out := s.ports[to].device
			w := newWay(seed, uint64(from*len(s.ports)+to), func(packet []byte) { _, _ = out.Write(packet) })
			ways, links = append(ways, w), append(links, NewLink(w.set))
			s.wg.Go(func() { w.run(s.done) })
		}
		s.ways, s.links = append(s.ways, ways), append(s.links, links)
	}
	for i := range s.ports {
		s.wg.Go(func() { s.read(i) })
	}
	return s, nil
}

// newPort starts the thread of a namespace, which makes the namespace.
func newPort(index int) (*port, error) {
	p, made := &port{work: make(chan func())}, make(chan error, 1)
	go func() {
		// The thread is never unlocked: it ends with the goroutine, and the namespace with it. Processes that are tied to
		// the life of the thread that started them can be started here.
		runtime.LockOSThread()
		err := p.enter(index)
		made <- err
		if err != nil {
			return
		}
		for f := range p.work {
			f()
		}
	}()
	return p, <-made
}

func (p *port) enter(index int) error {
	if index != outer {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
	}
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("/dev/net/tun: %w", err)
	}
	ifr, err := unix.NewIfreq(device)
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		return errors.Join(fmt.Errorf("TUNSETIFF: %w", err), unix.Close(fd))
	}
	if err := errors.Join(up("lo", ""), up(device, address(index))); err != nil {
		return errors.Join(err, unix.Close(fd))
	}
	p.device = os.NewFile(uintptr(fd), "/dev/net/tun")
	return nil
}

// up gives a device of the thread's namespace an address, if there is one, and switches it on.
func up(name, address string) error {
	sock, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(sock) }()
	set := func(what string, request uint, fill func(*unix.Ifreq) error) {
		ifr, ierr := unix.NewIfreq(name)
		if ierr == nil {
			ierr = fill(ifr)
		}
		if ierr == nil {
			ierr = unix.IoctlIfreq(sock, request, ifr)
		}
		if ierr != nil && err == nil {
			err = fmt.Errorf("%s: %s: %w", name, what, ierr)
		}
	}
	if address != "" {
		ip := netip.MustParseAddr(address).As4()
		set("MTU", unix.SIOCSIFMTU, func(r *unix.Ifreq) error { r.SetUint32(mtu); return nil })
		set("address", unix.SIOCSIFADDR, func(r *unix.Ifreq) error { return r.SetInet4Addr(ip[:]) })
		set("mask", unix.SIOCSIFNETMASK, func(r *unix.Ifreq) error { return r.SetInet4Addr([]byte{255, 255, 255, 0}) })
	}
	set("up", unix.SIOCSIFFLAGS, func(r *unix.Ifreq) error { r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING); return nil })
	return err
}

func address(index int) string {
	return netip.AddrFrom4([4]byte{subnet[0], subnet[1], subnet[2], byte(index + 1)}).String()
}

// read passes on what comes from a port until the switch is closed.
func (s *Switch) read(from int) {
	buf := make([]byte, 1<<16)
	for {
		n, err := s.ports[from].device.Read(buf)
		if err != nil {
			return
		}
		if to, ok := s.destination(buf[:n]); ok && to != from {
			s.ways[from][to].send(buf[:n])
		}
	}
}

// destination returns the port that an IPv4 packet is for.
func (s *Switch) destination(packet []byte) (to int, ok bool) {
	if len(packet) < 20 || packet[0]>>4 != 4 || !bytes.Equal(packet[16:19], subnet[:]) {
		return 0, false
	}
	to = int(packet[19]) - 1
	return to, to >= 0 && to < len(s.ports)
}

// Host returns the address of a member, from 0.
func (s *Switch) Host(member int) string { return address(member + 1) }

// Link returns the way from one member to another.
func (s *Switch) Link(from, to int) *Link { return s.links[from+1][to+1] }

// Do runs a function on the thread that is in the namespace of a member. What is started there is in the namespace too.
func (s *Switch) Do(member int, f func()) {
	done := make(chan struct{})
	s.ports[member+1].work <- func() {
		defer close(done)
		f()
	}
	<-done
}

// Count returns what became of the packets between members.
func (s *Switch) Count() (all Counts) {
	for from := range s.ways {
		for to := range s.ways[from] {
			if from == outer || to == outer {
				continue
			}
			c := s.ways[from][to].count()
			all.Passed += c.Passed
			all.Bytes += c.Bytes
			all.Cut += c.Cut
			all.Lost += c.Lost
			all.Overflowed += c.Overflowed
		}
	}
	return all
}

// Close ends the switch and the threads in its namespaces.
func (s *Switch) Close() error {
	close(s.done)
	var errs []error
	for _, p := range s.ports {
		errs = append(errs, p.device.Close())
		close(p.work)
	}
	s.wg.Wait()
	return errors.Join(errs...)
}
