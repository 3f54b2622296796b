package snap

import "os"

// FileReader is a database in a file of the operating system. A transport may have the kernel send it, past Read: so it is for
// a file whose bytes are the database, as they are, from the offset at which the file stands when the transport gets it.
//
// An *os.File is treated the same way. A FileReader is for those who have something to do when it is closed. Nothing else is:
// a reader that embeds a FileReader or an *os.File is read by its own Read.
//
// The file must not change until it is closed. A change of its size or of its modification time ends the transfer
// with an error.
type FileReader struct {
	file    *os.File
	onClose func()
}

// NewFileReader returns a ReadCloser for f. It owns f from now on: Close closes it, and then calls onClose, which may be nil,
// on the goroutine of its caller.
func NewFileReader(f *os.File, onClose func()) *FileReader { return &FileReader{f, onClose} }

// OS returns the file.
func (f *FileReader) OS() *os.File { return f.file }

// Read implements io.Reader.
func (f *FileReader) Read(p []byte) (int, error) { return f.file.Read(p) }

// Seek implements io.Seeker.
func (f *FileReader) Seek(offset int64, whence int) (int64, error) {
	return f.file.Seek(offset, whence)
}

// Close implements io.Closer.
func (f *FileReader) Close() error {
	if f.onClose != nil {
		defer f.onClose()
	}
	return f.file.Close()
}
