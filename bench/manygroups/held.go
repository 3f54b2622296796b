package manygroups

import (
	"os"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// held returns what the process has.
func held() (goroutines, descriptors int, heap uint64) {
	runtime.GC()
	runtime.GC() // what pools hold survives the first
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return runtime.NumGoroutine(), len(openFiles()), m.HeapAlloc
}

// openFiles returns the descriptors of the process.
func openFiles() (all []int) {
	open, _ := os.ReadDir("/proc/self/fd")
	for _, f := range open {
		if fd, err := strconv.Atoi(f.Name()); err == nil {
			all = append(all, fd)
		}
	}
	return all
}

// sentBytes is what the connections of the process have sent, and the other ends have received.
func sentBytes() (sum uint64) {
	for _, fd := range openFiles() {
		if info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			sum += info.Bytes_acked
		}
	}
	return sum
}

func cpuTime() time.Duration {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
