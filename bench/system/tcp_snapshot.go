package system

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
)

// SendSnapshot implements SnapshotSender: the kernel copies the file to a connection of its own (sendfile). What is
// received there is written to a file in large pieces, which is then synced and renamed as a snapshot is. The answer is
// a byte.
func (c *tcpCluster) SendSnapshot(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	var near, far net.Conn
	if err := c.connect(&near, &far); err != nil {
		return "", err
	}
	defer near.Close()
	saved := filepath.Join(c.cfg.SnapshotDir, "saved.snap.db")
	received := make(chan error, 1)
	go func() { received <- errors.Join(receiveFile(far, saved), far.Close()) }()
	if err := binary.Write(near, binary.BigEndian, info.Size()); err != nil {
		return "", errors.Join(err, near.Close(), <-received)
	}
	if _, err := io.Copy(near, f); err != nil {
		return "", errors.Join(err, near.Close(), <-received)
	}
	var answer [1]byte
	_, err = io.ReadFull(near, answer[:])
	if err := errors.Join(<-received, err); err != nil {
		return "", err
	}
	return saved, nil
}

const fileBuffer = 1 << 20

func receiveFile(conn net.Conn, path string) error {
	var size int64
	if err := binary.Read(conn, binary.BigEndian, &size); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "tmp")
	if err != nil {
		return err
	}
	// Without ReadFrom and WriteTo, since splice was no faster.
	n, err := io.CopyBuffer(struct{ io.Writer }{f}, struct{ io.Reader }{io.LimitReader(conn, size)}, make([]byte, fileBuffer))
	if err == nil && n < size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return errors.Join(fmt.Errorf("after %d bytes of %d: %w", n, size, err), f.Close())
	}
	if err := errors.Join(f.Sync(), f.Close(), os.Rename(f.Name(), path), syncDir(filepath.Dir(path))); err != nil {
		return err
	}
	_, err = conn.Write([]byte{1})
	return err
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
