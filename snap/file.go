package snap

import "os"

// FileReader is a database in a file of the operating system. A transport may let the kernel send it, bypassing Read.
// So the bytes of the file, from its offset when the transport receives it, must be exactly those of the database.
//
// An *os.File is treated the same way. Use a FileReader to do something on Close. No other type is treated so:
// a reader that embeds a FileReader or an *os.File is read by its own Read.
//
// The file must not change until it is closed. A change of its size or of its modification time ends the transfer
// with an error.
type FileReader struct {
	file    *os.File
	onClose func()
}

// NewFileReader returns a ReadCloser for f and owns f: Close closes it, and then calls onClose, which may be nil,
// on the caller's goroutine.
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
