package promise

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
)

// authorityOf is one of a scene, which can revoke certificates.
type authorityOf struct {
	st     *stage
	dir    string
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
	serial int64
}

// authority makes one, with files in a folder of its own.
func (st *stage) authority(name string) *authorityOf {
	a := &authorityOf{st: st, dir: st.dir(name), serial: 1}
	st.must(os.MkdirAll(a.dir, 0o700))
	t := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: []byte(name),
	}
	var err error
	a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	st.must(err)
	der, err := x509.CreateCertificate(rand.Reader, t, t, a.key.Public(), a.key)
	st.must(err)
	a.cert, err = x509.ParseCertificate(der)
	st.must(err)
	a.write("ca.pem", pemOf("CERTIFICATE", der))
	return a
}

// must says that a scene cannot be played.
func (st *stage) must(err error) {
	if err != nil {
		st.violate("simulation", "scene %s: %v", st.name, err)
	}
}

func (a *authorityOf) write(name string, data []byte) {
	a.st.must(os.WriteFile(filepath.Join(a.dir, name), data, 0o600))
}

// pair issues a certificate for a host, and leaves its files in the folder.
func (a *authorityOf) pair(name, host string) tls.Certificate {
	a.serial++
	t := &x509.Certificate{
		SerialNumber: big.NewInt(a.serial), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if ip := net.ParseIP(host); ip != nil {
		t.IPAddresses = []net.IP{ip}
	} else {
		t.DNSNames = []string{host}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	a.st.must(err)
	der, err := x509.CreateCertificate(rand.Reader, t, a.cert, key.Public(), a.key)
	a.st.must(err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	a.st.must(err)
	cert, private := pemOf("CERTIFICATE", der), pemOf("PRIVATE KEY", keyDER)
	a.write(name+".crt", cert)
	a.write(name+".key", private)
	pair, err := tls.X509KeyPair(cert, private)
	a.st.must(err)
	return pair
}

// info returns the files of a member, which gets a certificate.
func (a *authorityOf) info(name string) transport.TLSInfo {
	a.pair(name, name)
	file := func(end string) string { return filepath.Join(a.dir, end) }
	return transport.TLSInfo{CertFile: file(name + ".crt"), KeyFile: file(name + ".key"), TrustedCAFile: file("ca.pem"), ClientCertAuth: true}
}

// revoke returns a revocation list.
func (a *authorityOf) revoke(serials ...*big.Int) []byte {
	list := &x509.RevocationList{Number: big.NewInt(time.Now().Unix()), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour)}
	for _, serial := range serials {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: serial, RevocationTime: time.Now()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.cert, a.key)
	a.st.must(err)
	return der
}

func pemOf(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
