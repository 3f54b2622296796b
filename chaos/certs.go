package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// certLife is how long before and after now a certificate is good: a member whose clock jumps further than that stands
// alone until it is right again.
const certLife = 24 * time.Hour

// authority signs certificates. Its key is never written anywhere.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(serial int64) (*authority, error) {
	template := certTemplate(serial, fmt.Sprintf("chaos authority %d", serial))
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return &authority{cert, key, encodePEM("CERTIFICATE", der)}, err
}

func certTemplate(serial int64, name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(serial),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-certLife),
		NotAfter:     time.Now().Add(certLife),
	}
}

func encodePEM(typ string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: der})
}

// certs are the certificate files of all members.
type certs struct {
	dir   string
	hosts []string // by slot

	mu      sync.Mutex // held for a rotation
	current *authority
	serial  int64
}

// newCerts makes an authority and a certificate for each host.
func newCerts(dir string, hosts []string) (*certs, error) {
	c := &certs{dir: dir, hosts: hosts, serial: 1}
	var err error
	if c.current, err = newAuthority(c.serial); err != nil {
		return nil, err
	}
	if err := c.trust(c.current); err != nil {
		return nil, err
	}
	return c, c.issueAll(c.current)
}

func (c *certs) caFile() string { return filepath.Join(c.dir, "ca.pem") }
func (c *certs) certFile(slot int) string {
	return filepath.Join(c.dir, fmt.Sprintf("member-%d.pem", slot+1))
}
func (c *certs) keyFile(slot int) string {
	return filepath.Join(c.dir, fmt.Sprintf("member-%d-key.pem", slot+1))
}
func (c *certs) flags(slot int) []string {
	return []string{"-peer-cert", c.certFile(slot), "-peer-key", c.keyFile(slot), "-peer-ca", c.caFile()}
}

// trust makes the members accept certificates of these authorities.
func (c *certs) trust(authorities ...*authority) error {
	var bundle []byte
	for _, a := range authorities {
		bundle = append(bundle, a.pem...)
	}
	return replaceFile(c.caFile(), bundle)
}

// issue gives a member a new certificate and key, for both ends of a connection.
func (c *certs) issue(a *authority, slot int) error {
	c.serial++
	template := certTemplate(c.serial, fmt.Sprintf("member-%d", slot+1))
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	template.IPAddresses = []net.IP{net.ParseIP(c.hosts[slot])}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	// Between the two, certificate and key do not match, and members go on with the last pair that did.
	if err := replaceFile(c.keyFile(slot), encodePEM("PRIVATE KEY", keyDER)); err != nil {
		return err
	}
	return replaceFile(c.certFile(slot), encodePEM("CERTIFICATE", der))
}

func (c *certs) issueAll(a *authority) error {
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
	c.serial++
	next, err := newAuthority(c.serial)
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

// replaceFile replaces a file in one step, so that no reader sees half of it.
func replaceFile(path string, text []byte) error {
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
