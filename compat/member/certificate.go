package member

import (
	"os"
	"path/filepath"

	"github.com/seed-4d73690b/rafthttp/compat/v36/drive"
	"github.com/seed-4d73690b/rafthttp/internal/testcert"
)

// NewCertificate makes a certificate for members on loopback, and a CA of its own for it, and writes them to dir.
// All members of a test may use the same.
func NewCertificate(dir string) (*drive.TLS, error) {
	authority, err := testcert.NewAuthority("test CA")
	if err != nil {
		return nil, err
	}
	cert, key, err := authority.Issue("test member", "127.0.0.1", "localhost")
	if err != nil {
		return nil, err
	}
	files := &drive.TLS{CA: filepath.Join(dir, "ca.pem"), Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	for path, pem := range map[string][]byte{files.CA: authority.PEM, files.Cert: cert, files.Key: key} {
		if err := os.WriteFile(path, pem, 0o600); err != nil {
			return nil, err
		}
	}
	return files, nil
}
