package promise

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"
)

// stallTime is how long a snapshot may last whose reader stands still: a few attempts.
const stallTime = 2 * time.Minute

const (
	slowChunk = 32 << 10
	slowRead  = 400 * time.Millisecond
)

// reader returns the reader of a database.
func (t *transfer) reader(data []byte) io.ReadCloser {
	switch t.source {
	case "seeks":
		return &seeking{bytes.NewReader(data), t}
	case "slow":
		return &plainReader{&slowReader{bytes.NewReader(data)}, t}
	case "slow, seeks":
		return &slowSeeking{bytes.NewReader(data), t}
	case "decrypts":
		return t.decrypting(data)
	case "stalls":
		return &stalling{plainReader{bytes.NewReader(data[:len(data)/2]), t}, make(chan struct{})}
	case "close hangs":
		return &closeHangs{bytes.NewReader(data), t}
	case "panics":
		return &plainReader{io.MultiReader(bytes.NewReader(data[:len(data)/2]), panicking{}), t}
	case "file":
		return &fileReader{t.file(data), t}
	}
	return &plainReader{bytes.NewReader(data), t}
}

// file returns a file of these bytes.
func (t *transfer) file(data []byte) *os.File {
	f, err := os.Create(filepath.Join(t.sender.s.cfg.Dir, "sent"))
	if err == nil {
		_, err = f.Write(data)
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		t.sender.s.violate("simulation", "file of a snapshot: %v", err)
	}
	_ = os.Remove(f.Name())
	return f
}

// decrypting returns a reader that knows the file that it reads, which has other bytes.
func (t *transfer) decrypting(data []byte) io.ReadCloser {
	raw := bytes.Clone(data)
	for i := range raw {
		raw[i] ^= 0xff
	}
	f := t.file(raw)
	return &decrypting{f, &fileReader{f, t}}
}

// closed notes a Close.
func (t *transfer) closed() error {
	t.closes.Add(1)
	if stack := string(debug.Stack()); strings.Contains(stack, ").sendSnapshot(") {
		t.sender.s.violate("snapshot ends", "the reader is closed by who calls SendSnapshot")
	}
	return errors.New("of no interest")
}

type (
	plainReader struct {
		io.Reader
		t *transfer
	}
	seeking struct {
		*bytes.Reader
		t *transfer
	}
	fileReader struct {
		*os.File
		t *transfer
	}
	slowReader  struct{ r io.Reader }
	slowSeeking struct {
		io.ReadSeeker
		t *transfer
	}
	closeHangs struct {
		*bytes.Reader
		t *transfer
	}
	stalling struct {
		plainReader
		closing chan struct{}
	}
	decrypting struct {
		raw *os.File
		io.ReadSeekCloser
	}
	panicking struct{}
)

// Close implements io.Closer.
func (r *plainReader) Close() error { return r.t.closed() }

// Close implements io.Closer.
func (r *seeking) Close() error { return r.t.closed() }

// Close implements io.Closer.
func (r *fileReader) Close() error {
	_ = r.File.Close()
	return r.t.closed()
}

// Read implements io.Reader.
func (r *slowReader) Read(p []byte) (int, error) {
	time.Sleep(slowRead)
	return r.r.Read(p[:min(len(p), slowChunk)])
}

// Read implements io.Reader.
func (r *slowSeeking) Read(p []byte) (int, error) { return (&slowReader{r.ReadSeeker}).Read(p) }

// Close implements io.Closer.
func (r *slowSeeking) Close() error { return r.t.closed() }

// File returns what is read, as it is on the disk.
func (r *decrypting) File() *os.File { return r.raw }

// Read implements io.Reader.
func (r *decrypting) Read(p []byte) (int, error) {
	n, err := r.ReadSeekCloser.Read(p)
	for i := range p[:n] {
		p[i] ^= 0xff
	}
	return n, err
}

// Close implements io.Closer.
func (r *closeHangs) Close() error {
	err := r.t.closed()
	time.Sleep(closeTime)
	return err
}

// closeTime is how long a Close hangs.
const closeTime = 20 * time.Second

// Read implements io.Reader: it returns half of the database, and then nothing until Close.
func (r *stalling) Read(p []byte) (int, error) {
	if n, err := r.Reader.Read(p); err == nil {
		return n, nil
	}
	<-r.closing
	return 0, os.ErrClosed
}

// Close implements io.Closer.
func (r *stalling) Close() error {
	if r.t.closes.Load() == 0 {
		close(r.closing)
	}
	return r.t.closed()
}

// Read implements io.Reader.
func (panicking) Read([]byte) (int, error) { panic("a reader that panics") }
