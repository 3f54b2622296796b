package scenario

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/seed-4d73690b/rafthttp/bench/system"
)

// snapshot sends one database from file to file. It ends when the sender knows that the receiver has it durably.
func snapshot(r *run) (Figures, error) {
	source, err := database(r.Folders[r.Folder], r.DatabaseBytes)
	if err != nil {
		return nil, err
	}
	if err := claimMemory(r.Folders[r.Folder], r.DatabaseBytes); err != nil {
		return nil, err
	}
	before, err := resetPeak()
	if err != nil {
		return nil, err
	}
	callsBefore, used := fileCalls(), usageNow()
	saved, err := r.cluster.(system.SnapshotSender).SendSnapshot(source)
	if err != nil {
		return nil, err
	}
	took, calls := usageNow().since(used), fileCalls()-callsBefore
	peak := procStatus("VmHWM")
	if err := same(source, saved); err != nil {
		return nil, err
	}
	return Figures{
		FileRate: float64(r.DatabaseBytes) / took.elapsed.Seconds() / 1e6, FileCPU: took.cpu.Seconds(),
		Peak: (peak - before) / 1024, Calls: calls,
	}, nil
}

// latencyBesideSnapshot sends heartbeats one after the other, first while nothing else is sent, and then while one
// snapshot after another is.
func latencyBesideSnapshot(r *run) (Figures, error) {
	source, err := database(r.Folders[r.Folder], r.DatabaseBytes)
	if err != nil {
		return nil, err
	}
	if err := claimMemory(r.Folders[r.Folder], r.DatabaseBytes); err != nil {
		return nil, err
	}
	if _, err := pingFor(r.cluster, r.sink, r.WarmUp); err != nil {
		return nil, err
	}
	runtime.GC()
	idle, err := pingFor(r.cluster, r.sink, r.Measure)
	if err != nil {
		return nil, err
	}
	stop, sent := make(chan struct{}), make(chan error, 1)
	var databases int
	start := time.Now()
	go func() {
		for {
			saved, err := r.cluster.(system.SnapshotSender).SendSnapshot(source)
			if err == nil {
				err = os.Remove(saved)
			}
			if err != nil {
				sent <- err
				return
			}
			databases++
			select {
			case <-stop:
				sent <- nil
				return
			default:
			}
		}
	}()
	beside, err := pingFor(r.cluster, r.sink, 2*r.Measure)
	close(stop)
	if err := errors.Join(err, <-sent); err != nil {
		return nil, err
	}
	tail := percentile(beside, 0.99)
	return Figures{
		TailBulk: tail * 1e3, Slowdown: tail / percentile(idle, 0.99),
		FileRate: float64(databases) * float64(r.DatabaseBytes) / time.Since(start).Seconds() / 1e6,
	}, nil
}

// database makes a file of this size, unless it is there from an earlier run. It is durable, so that nobody has to
// write it back for somebody else, and in the page cache.
func database(dir string, size int64) (path string, err error) {
	path = filepath.Join(dir, fmt.Sprintf("database-%d", size))
	if info, err := os.Stat(path); err == nil && info.Size() == size {
		return path, nil
	}
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if err := fill(f, size); err != nil {
		return "", err
	}
	return path, f.Sync()
}

// claimMemory has the kernel use as much memory as a database needs, and free it again. The host of a virtual machine
// may take back what is free, and then the first use of a page costs several times what copying to it does: whoever
// runs next would pay for it, or not, by chance.
func claimMemory(dir string, size int64) error {
	f, err := os.CreateTemp(dir, "claim")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	return errors.Join(fill(f, size), f.Close())
}

// fill writes size bytes.
func fill(f *os.File, size int64) error {
	page := make([]byte, 1<<20)
	for i := range page {
		page[i] = byte(i * i >> 7)
	}
	for n := int64(0); n < size; n += int64(len(page)) {
		binary.BigEndian.PutUint64(page, uint64(n)) // no two are alike
		if _, err := f.Write(page[:min(int64(len(page)), size-n)]); err != nil {
			return err
		}
	}
	return nil
}

// same compares two files.
func same(a, b string) error {
	fa, err := os.Open(a)
	if err != nil {
		return err
	}
	defer fa.Close()
	fb, err := os.Open(b)
	if err != nil {
		return err
	}
	defer fb.Close()
	pa, pb := make([]byte, 1<<20), make([]byte, 1<<20)
	for {
		na, errA := io.ReadFull(fa, pa)
		nb, errB := io.ReadFull(fb, pb)
		if !bytes.Equal(pa[:na], pb[:nb]) {
			return fmt.Errorf("what is in %s is not what was sent", b)
		}
		if errA != nil || errB != nil {
			return nil // both end here, since what was read is equal
		}
	}
}

// resetPeak lets the kernel forget how much memory the process has had, and returns how much it has, in KiB.
func resetPeak() (float64, error) {
	settle()
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		return 0, err
	}
	return procStatus("VmRSS"), nil
}

// procStatus is a line of /proc/self/status, in KiB.
func procStatus(name string) float64 { return procNumber("/proc/self/status", name) }

// fileCalls counts the read and write calls of the process.
func fileCalls() float64 {
	return procNumber("/proc/self/io", "syscr") + procNumber("/proc/self/io", "syscw")
}

func procNumber(path, name string) float64 {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if key, value, _ := strings.Cut(line, ":"); key == name {
			var n float64
			_, _ = fmt.Sscan(value, &n)
			return n
		}
	}
	return 0
}
