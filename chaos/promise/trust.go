package promise

import (
	"crypto/tls"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"

	"github.com/seed-4d73690b/rafthttp/internal/testcert"
)

// authority makes the certificates of the members.
type authority struct {
	s  *simulation
	ca *testcert.Authority

	revoked [][]byte            // certificates, owned by the goroutine of Run
	issued  map[uint64][][]byte // those that were not revoked, by member, as well
	bars    map[uint64]*bar     // by member, as well

	mu   sync.Mutex
	rest map[uint64]func() // writes the rest of a file that is half written
}

// whole has the files of a member be whole.
func (a *authority) whole(id uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if rest := a.rest[id]; rest != nil {
		rest()
		delete(a.rest, id)
	}
}

func newAuthority(s *simulation) *authority {
	ca, err := testcert.NewAuthority("authority")
	if err != nil {
		s.violate("simulation", "authority: %v", err)
		return nil
	}
	a := &authority{s: s, ca: ca, rest: map[uint64]func(){}, issued: map[uint64][][]byte{}, bars: map[uint64]*bar{}}
	a.write(a.file("ca.pem"), ca.PEM)
	a.write(a.file(listFile), a.list())
	for _, id := range s.ids() {
		a.issue(id, false)
	}
	return a
}

func (a *authority) file(name string) string { return filepath.Join(a.s.cfg.Dir, name) }

func (a *authority) write(path string, data []byte) {
	if err := os.WriteFile(path, data, 0o600); err != nil {
		a.s.violate("simulation", "certificate: %v", err)
	}
}

// issue gives a member a new certificate. If torn is true, files are half written for some time.
func (a *authority) issue(id uint64, torn bool) {
	a.whole(id)
	if b := a.bars[id]; b != nil {
		a.lift(b)
	}
	cert, key, err := a.ca.Issue(host(id), host(id))
	if err != nil {
		a.s.violate("simulation", "certificate: %v", err)
		return
	}
	a.issued[id] = append(a.issued[id], cert)
	certFile, keyFile := a.file(host(id)+".crt"), a.file(host(id)+".key")
	if !torn {
		a.write(certFile, cert)
		a.write(keyFile, key)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.write(certFile, cert[:len(cert)/2])
	a.rest[id] = func() {
		a.write(certFile, cert)
		a.write(keyFile, key)
	}
	a.s.at(a.s.now()+tornTime, "the rest of the certificate", func() { a.whole(id) })
}

// tornTime is how long files are half written.
const tornTime = 3 * time.Second

// rotate gives A a new certificate.
func (a *authority) rotate(e Event) {
	torn := e.How == "torn"
	a.issue(e.A, torn)
	for _, w := range a.s.around(e.A) {
		a.s.mayFlap(w, rotateTime)
		a.s.crowded(w, rotateTime) // raft is told when a stream moves to another connection
		if torn {
			a.s.hurt(w) // our listener is etcd's, which takes none meanwhile
			a.s.until(tornTime, "torn", func() { a.s.heal(w, a.s.recovers(w)) })
		}
	}
}

// rotateTime is how long it takes until all connections have a new certificate.
const rotateTime = 45 * time.Second

// info returns the files of a member, which begins to use them.
func (a *authority) info(id uint64) transport.TLSInfo {
	a.whole(id)
	a.whole(ofList)
	info := transport.TLSInfo{
		CertFile: a.file(host(id) + ".crt"), KeyFile: a.file(host(id) + ".key"), TrustedCAFile: a.file("ca.pem"), ClientCertAuth: true,
	}
	if a.s.plan.Revokes {
		info.CRLFile = a.file(listFile)
	}
	return info
}

// listener returns a listener with TLS.
func (a *authority) listener(ln net.Listener, info transport.TLSInfo) net.Listener {
	cfg, err := info.ServerConfig()
	if err != nil {
		a.s.violate("simulation", "certificate: %v", err)
		return ln
	}
	cfg.NextProtos = []string{"http/1.1"}
	return tls.NewListener(ln, cfg)
}
