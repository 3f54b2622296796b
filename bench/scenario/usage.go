package scenario

import (
	"runtime"
	"syscall"
	"time"
)

// usage is what the process has used up to a moment, or between two.
type usage struct {
	elapsed        time.Duration // since the process began to measure
	cpu            time.Duration // user and system
	mallocs, bytes uint64
}

var began = time.Now()

func usageNow() usage {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return usage{elapsed: time.Since(began), cpu: cpuTime(), mallocs: m.Mallocs, bytes: m.TotalAlloc}
}

func cpuTime() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		panic(err) // the arguments are constants
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

func (u usage) since(before usage) usage {
	return usage{
		elapsed: u.elapsed - before.elapsed, cpu: u.cpu - before.cpu,
		mallocs: u.mallocs - before.mallocs, bytes: u.bytes - before.bytes,
	}
}
