// Package wallclock sets the clock of single processes: of Go programs that were built for it. Linux has namespaces for
// the monotonic clock, none for the time of day, and this one does not need any. A program is built with a copy of the
// standard library's time package in which Now adds an offset, and the offset is written into the memory of the process.
// To the process it is what settimeofday does to all of them: Now jumps, timers and durations do not notice.
package wallclock

import (
	"debug/elf"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// exec lets its parent go on before all of the program is in the memory of the process.
const (
	loadTries = 100
	loadPause = time.Millisecond
)

const (
	variable = "chaosOffset" // in package time: nanoseconds to add
	reading  = "\tsec, nsec, mono := runtimeNow()\n"
	adding   = reading + `	if ns := int64(nsec) + ` + variable + `; ns != int64(nsec) {
		sec, nsec = sec+ns/1e9, int32(ns%1e9)
		if nsec < 0 {
			sec, nsec = sec-1, nsec+1e9
		}
	}
`
)

// Overlay writes to dir what "go build -overlay" needs to make programs whose clock can be set, and returns the file for
// the flag. It fails if the standard library is not as it was.
func Overlay(dir string) (string, error) {
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOROOT: %w", err)
	}
	original := filepath.Join(strings.TrimSpace(string(out)), "src", "time", "time.go")
	text, err := os.ReadFile(original)
	if err != nil {
		return "", err
	}
	changed, err := patch(string(text))
	if err != nil {
		return "", fmt.Errorf("%s: %w", original, err)
	}
	replacement := filepath.Join(dir, "time.go.txt")
	if err := os.WriteFile(replacement, []byte(changed), 0o600); err != nil {
		return "", err
	}
	config, err := json.Marshal(map[string]map[string]string{"Replace": {original: replacement}})
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "overlay.json")
	return file, os.WriteFile(file, config, 0o600)
}

func patch(text string) (string, error) {
	head, rest, ok := strings.Cut(text, "\nfunc Now() Time {\n"+reading)
	if !ok {
		return "", errors.New("it does not read the clock as expected")
	}
	return head + "\nfunc Now() Time {\n" + adding + rest + "\nvar " + variable + " int64\n", nil
}

// Clock sets the clocks of the processes of one program.
type Clock struct{ address int64 }

// Find looks into a program that was built with the overlay.
func Find(program string) (*Clock, error) {
	f, err := elf.Open(program)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if f.Type != elf.ET_EXEC {
		return nil, fmt.Errorf("%s: a program that is loaded anywhere", program)
	}
	symbols, err := f.Symbols()
	if err != nil {
		return nil, err
	}
	for _, s := range symbols {
		if s.Name == "time."+variable {
			return &Clock{int64(s.Value)}, nil
		}
	}
	return nil, fmt.Errorf("%s: not built with the overlay", program)
}

// Set makes the clock of a process wrong by an offset; zero makes it right. The process must be one that the caller may
// trace, such as its child. One that was just started is waited for, until the system has loaded it.
func (c *Clock) Set(pid int, offset time.Duration) error {
	err := c.set(pid, offset)
	for range loadTries {
		if !errors.Is(err, syscall.EIO) {
			return err
		}
		time.Sleep(loadPause)
		err = c.set(pid, offset)
	}
	return err
}

func (c *Clock) set(pid int, offset time.Duration) error {
	f, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(binary.NativeEndian.AppendUint64(nil, uint64(offset)), c.address)
	return errors.Join(err, f.Close())
}
