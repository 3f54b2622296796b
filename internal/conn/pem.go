package conn

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"

	"github.com/seed-4d73690b/rafthttp/internal/faultpoint"
)

// readFunc reads a file.
type readFunc func(path string) ([]byte, error)

// readAgain reads a file that was read before, and may be replaced or incomplete by now.
func readAgain(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	return faultpoint.Torn(faultpoint.TLSFileRead, text), err
}

// pemBlocks returns the blocks of a file, which must all be complete: package pem
// skips a truncated block, so that half a file would be valid.
// Outside of blocks there may be white space and comments, which are lines that
// begin with #. If text is set, other text may precede a block, as
// tools write it.
func pemBlocks(file []byte, text bool) (blocks []*pem.Block, err error) {
	stray := 0 // line of text with no block after it yet
	for rest, line := file, 1; len(rest) > 0; {
		first, after, _ := bytes.Cut(rest, []byte("\n"))
		switch first = bytes.TrimSpace(first); {
		case len(first) == 0 || first[0] == '#':
		case bytes.HasPrefix(first, pemBegin):
			var block *pem.Block
			block, after = pem.Decode(bytes.TrimLeft(rest, " \t"))
			if block == nil || bytes.Count(rest[:len(rest)-len(after)], pemBegin) > 1 {
				return nil, fmt.Errorf("line %d: a block that is not whole", line)
			}
			blocks, stray = append(blocks, block), 0
		case text && isText(first):
			stray = line
		default:
			return nil, fmt.Errorf("line %d: neither a certificate nor a comment, which begins with #", line)
		}
		line += bytes.Count(rest[:len(rest)-len(after)], []byte("\n"))
		rest = after
	}
	if stray > 0 {
		return nil, fmt.Errorf("line %d: text without a certificate behind it", stray)
	}
	return blocks, nil
}

var pemBegin = []byte("-----BEGIN ")

// isText reports whether a line outside of blocks contains no part of a block, and
// is not filler that a file system leaves in place of unwritten data.
func isText(line []byte) bool {
	control := func(r rune) bool { return r < ' ' && r != '\t' }
	return !bytes.Contains(line, pemBegin[:5]) && !bytes.ContainsFunc(line, control)
}

// parseBundle reads certificates of authorities in PEM.
func parseBundle(text []byte) (certs []*x509.Certificate, err error) {
	blocks, err := pemBlocks(text, false)
	if err != nil {
		return nil, err
	}
	for _, b := range blocks {
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", b.Type, err)
		}
		certs = append(certs, c)
	}
	if len(certs) == 0 {
		return nil, errors.New("no certificate in it")
	}
	return certs, nil
}

// keyPair is a certificate with its chain, and its key, in two files. It is safe
// for concurrent use.
type keyPair struct {
	certFile, keyFile string

	mu        sync.Mutex
	cert, key []byte
	last      *tls.Certificate // of these texts; nil: not read yet
}

// read returns the current content of the files.
func (k *keyPair) read(read readFunc) (*tls.Certificate, error) {
	cert, err := read(k.certFile)
	if err != nil {
		return nil, err
	}
	key, err := read(k.keyFile)
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.last != nil && bytes.Equal(cert, k.cert) && bytes.Equal(key, k.key) {
		return k.last, nil
	}
	if err := checkChain(cert); err != nil {
		return nil, fmt.Errorf("%s: %w", k.certFile, err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("%s, %s: %w", k.certFile, k.keyFile, err)
	}
	k.cert, k.key, k.last = cert, key, &pair
	return k.last, nil
}

// readOrLast returns the current content of the files or, if that is unusable, the last usable
// one, with the reason. It is nil if there was none.
func (k *keyPair) readOrLast() (*tls.Certificate, error) {
	c, err := k.read(readAgain)
	if err == nil {
		return c, nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.last, err
}

// checkChain returns an error for a file with an invalid certificate: package tls parses
// only the first.
func checkChain(text []byte) error {
	blocks, err := pemBlocks(text, true)
	if err != nil {
		return err
	}
	for _, b := range blocks {
		if b.Type != "CERTIFICATE" {
			continue // a key may be in the same file
		}
		if _, err := x509.ParseCertificate(b.Bytes); err != nil {
			return err
		}
	}
	return nil
}

// sameChain reports whether two chains have the same certificates.
func sameChain(a, b [][]byte) bool { return slices.EqualFunc(a, b, bytes.Equal) }
