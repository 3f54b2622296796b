package report

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/seed-4d73690b/rafthttp/bench/system"
)

// Environment is where and with what a run was made.
type Environment struct {
	Date    string            `json:"date"`
	Command string            `json:"command"`
	Machine string            `json:"machine"`
	Kernel  string            `json:"kernel"`
	Go      string            `json:"go"`
	Load    string            `json:"load"`    // average before and after the run: about 0 and 2 say that the machine was its own
	Modules map[string]string `json:"modules"` // title of a system → version
}

// LoadAverage is the machine's, of the last minute.
func LoadAverage() string {
	average, _, _ := strings.Cut(firstLine("/proc/loadavg"), " ")
	return average
}

// Here is the environment of this process after a run, before which the load average was loadBefore. What the machine
// does not tell is a question mark.
func Here(command, loadBefore string, systems []system.System) Environment {
	e := Environment{
		Date: time.Now().UTC().Format(time.DateOnly), Command: command,
		Machine: fmt.Sprintf("%d × %s, %s of memory", runtime.NumCPU(), fromFile("/proc/cpuinfo", "model name"), memory()),
		Kernel:  runtime.GOOS + " " + firstLine("/proc/sys/kernel/osrelease"),
		Load:    loadBefore + " before, " + LoadAverage() + " after",
		Go:      runtime.Version(), Modules: map[string]string{},
	}
	info, ok := debug.ReadBuildInfo()
	for _, s := range systems {
		if !ok || s.Module == "" || s.Name == Ours {
			continue
		}
		for _, dep := range info.Deps {
			if dep.Path == s.Module {
				e.Modules[s.Title] = dep.Version
			}
		}
	}
	return e
}

// String is the environment as prose, the systems in the order of titles.
func (e Environment) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "`%s` on %s; %s, %s, %s; load average %s.", e.Command, e.Date, e.Machine, e.Kernel, e.Go, e.Load)
	sep := " Compared with "
	for _, s := range system.All() {
		if v, ok := e.Modules[s.Title]; ok {
			fmt.Fprintf(&b, "%s%s %s", sep, s.Title, v)
			sep = ", "
		}
	}
	if sep == ", " {
		b.WriteString(".")
	}
	return b.String()
}

func memory() string {
	var kib float64
	if _, err := fmt.Sscanf(fromFile("/proc/meminfo", "MemTotal"), "%f", &kib); err != nil {
		return "?"
	}
	return fmt.Sprintf("%.0f GiB", kib/(1<<20))
}

// fromFile is the value of a line "name : value".
func fromFile(path, name string) string {
	f, err := os.Open(path)
	if err != nil {
		return "?"
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if key, value, ok := strings.Cut(s.Text(), ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return "?"
}

func firstLine(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return "?"
	}
	line, _, _ := strings.Cut(string(b), "\n")
	return line
}
