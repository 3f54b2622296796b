// Package testcert makes the certificates of test clusters.
package testcert

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"sync/atomic"
	"time"
)

// Life is how long before and after now a certificate is valid.
const Life = 24 * time.Hour

// Authority signs certificates. Its key is never written to a file.
type Authority struct {
	// PEM is its certificate, for bundles.
	PEM []byte

	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
	serial atomic.Int64 // of the last certificate
}

// NewAuthority returns an authority with this common name.
func NewAuthority(name string) (*Authority, error) {
	t := template(1, name)
	t.IsCA, t.BasicConstraintsValid = true, true
	t.KeyUsage, t.SubjectKeyId = x509.KeyUsageCertSign|x509.KeyUsageCRLSign, []byte(name)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, err
	}
	a := &Authority{PEM: encode("CERTIFICATE", der), key: key}
	a.serial.Store(1)
	a.cert, err = x509.ParseCertificate(der)
	return a, err
}

// Issue returns a new certificate, for both ends of a connection, and its key. Hosts are IP addresses and names.
func (a *Authority) Issue(name string, hosts ...string) (certPEM, keyPEM []byte, err error) {
	t := template(a.serial.Add(1), name)
	t.KeyUsage = x509.KeyUsageDigitalSignature
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, host)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, t, a.cert, key.Public(), a.key)
	if err != nil {
		return nil, nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	return encode("CERTIFICATE", der), encode("PRIVATE KEY", keyDER), nil
}

// Revocations returns a list of revoked certificates, in DER.
func (a *Authority) Revocations(certPEMs ...[]byte) ([]byte, error) {
	now := time.Now()
	list := &x509.RevocationList{Number: big.NewInt(a.serial.Add(1)), ThisUpdate: now.Add(-Life), NextUpdate: now.Add(Life)}
	for _, text := range certPEMs {
		block, _ := pem.Decode(text)
		if block == nil {
			return nil, errors.New("no certificate in PEM")
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: cert.SerialNumber, RevocationTime: now})
	}
	return x509.CreateRevocationList(rand.Reader, list, a.cert, a.key)
}

func template(serial int64, name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-Life), NotAfter: time.Now().Add(Life),
	}
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
