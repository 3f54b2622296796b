package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/seed-4d73690b/rafthttp/internal/testcert"
)

// certs are the certificate files of all members. A member whose clock jumps out of the life of certificates stands alone
// until it is right again.
type certs struct {
	dir   string
	hosts []string // by slot

	mu      sync.Mutex // held for a rotation
	current *testcert.Authority
	made    int // authorities

	pieces *rand.Rand          // what is written in pieces, and in which; nil: nothing. The owner of mu has it
	pause  func(time.Duration) // between pieces

	writing sync.Mutex // guards wrote
	wrote   time.Time  // when the last file was written; the end of time while one is
}

// newCerts makes an authority and a certificate for each host.
func newCerts(dir string, hosts []string) (*certs, error) {
	c := &certs{dir: dir, hosts: hosts, pause: time.Sleep}
	var err error
	if c.current, err = c.newAuthority(); err != nil {
		return nil, err
	}
	if err := c.trust(c.current); err != nil {
		return nil, err
	}
	return c, c.issueAll(c.current)
}

func (c *certs) newAuthority() (*testcert.Authority, error) {
	c.made++
	return testcert.NewAuthority(fmt.Sprintf("chaos authority %d", c.made))
}

func (c *certs) caFile() string { return filepath.Join(c.dir, "ca.pem") }
func (c *certs) certFile(slot int) string {
	return filepath.Join(c.dir, fmt.Sprintf("member-%d.pem", slot+1))
}
func (c *certs) keyFile(slot int) string {
	return filepath.Join(c.dir, fmt.Sprintf("member-%d-key.pem", slot+1))
}
func (c *certs) flags(slot int) []string {
	// A host keeps its certificate while its members, and their ids, come and go: no certificate names one.
	return []string{"-peer-cert", c.certFile(slot), "-peer-key", c.keyFile(slot), "-peer-ca", c.caFile(), "-peer-trust-domain", ""}
}

// trust makes the members accept certificates of these authorities.
func (c *certs) trust(authorities ...*testcert.Authority) error {
	var bundle []byte
	for _, a := range authorities {
		bundle = append(bundle, a.PEM...)
	}
	return c.write(c.caFile(), bundle)
}

// issue gives a member a new certificate and key, for both ends of a connection.
func (c *certs) issue(a *testcert.Authority, slot int) error {
	cert, key, err := a.Issue(fmt.Sprintf("member-%d", slot+1), c.hosts[slot])
	if err != nil {
		return err
	}
	// Between the two, certificate and key do not match, and members go on with the last pair that did.
	if err := c.write(c.keyFile(slot), key); err != nil {
		return err
	}
	return c.write(c.certFile(slot), cert)
}

func (c *certs) issueAll(a *testcert.Authority) error {
	for slot := range c.hosts {
		if err := c.issue(a, slot); err != nil {
			return err
		}
	}
	return nil
}

// rotateLeaf gives one member a new certificate of the same authority. The caller has c.mu.
func (c *certs) rotateLeaf(slot int) error { return c.issue(c.current, slot) }

// rotateAuthority moves all members to a new authority: they come to accept both, then show certificates of the new one,
// and then do not accept the old one any more. After each step it waits for as long as members may take to notice. The
// caller has c.mu.
func (c *certs) rotateAuthority(wait func()) error {
	next, err := c.newAuthority()
	if err != nil {
		return err
	}
	if err := c.trust(c.current, next); err != nil {
		return err
	}
	wait()
	if err := c.issueAll(next); err != nil {
		return err
	}
	wait()
	c.current = next
	if err := c.trust(next); err != nil {
		return err
	}
	wait()
	return nil
}

const (
	mostPieces   = 4
	longestPause = 300 * time.Millisecond // between two pieces
)

// endOfTime is when a file that is being written will have been.
var endOfTime = time.Unix(1<<40, 0)

// write replaces a file: in one step, as careful tools do, or where it is, in pieces, as others do.
func (c *certs) write(path string, text []byte) error {
	c.setWrote(endOfTime)
	defer func() { c.setWrote(time.Now()) }()
	if c.pieces == nil || c.pieces.IntN(2) == 0 {
		return replaceFile(path, text)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	for n := 1 + c.pieces.IntN(mostPieces); n > 0 && len(text) > 0; n-- {
		c.pause(time.Duration(c.pieces.Int64N(int64(longestPause))))
		piece := len(text)
		if n > 1 {
			piece = c.pieces.IntN(len(text))
		}
		if _, err := f.Write(text[:piece]); err != nil {
			return err
		}
		text = text[piece:]
	}
	return nil
}

func (c *certs) setWrote(t time.Time) {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.wrote = t
}

// wroteSince says whether a file was written at a time or later.
func (c *certs) wroteSince(t time.Time) bool {
	c.writing.Lock()
	defer c.writing.Unlock()
	return !c.wrote.Before(t)
}

// replaceFile replaces a file in one step, so that no reader sees half of it.
func replaceFile(path string, text []byte) error {
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
