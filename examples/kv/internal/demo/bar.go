package demo

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

const (
	barWidth   = 10 // a line that is redrawn must fit into 80 columns
	labelWidth = 50
	redraw     = 80 * time.Millisecond
)

// bar shows how far a step is. On a terminal it is drawn over and over in its
// line; elsewhere there is one line, at the end.
type bar struct {
	out      io.Writer
	terminal bool
	label    string
	start    time.Time
	quit     chan struct{}
	drawn    sync.WaitGroup

	mu          sync.Mutex
	done, total int64
	note        string // stands at the end of the label
}

func startBar(out io.Writer, label string) *bar {
	b := &bar{out: out, terminal: isTerminal(out), label: label, start: time.Now(), quit: make(chan struct{})}
	if b.terminal {
		b.drawn.Go(b.run)
	}
	return b
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("TERM") == "dumb" {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

func (b *bar) run() {
	ticker := time.NewTicker(redraw)
	defer ticker.Stop()
	for {
		fmt.Fprintf(b.out, "\r\x1b[K%s", b.line())
		select {
		case <-ticker.C:
		case <-b.quit:
			return
		}
	}
}

// set says how far the step is. A total of 0 means that nobody knows how far
// there is to go.
func (b *bar) set(done, total int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.done, b.total = done, total
}

// say has something short stand at the end of the label, over it if need be.
func (b *bar) say(note string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.note = note
}

func (b *bar) line() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	progress := ""
	if b.total > 0 {
		done := min(b.done, b.total)
		full := int(done * barWidth / b.total)
		progress = fmt.Sprintf("%s%s %3d%%", strings.Repeat("█", full), strings.Repeat("░", barWidth-full), done*100/b.total)
	}
	label := b.label
	if b.note != "" {
		room := labelWidth - len(b.note) - 1
		label = fmt.Sprintf("%-*.*s %s", room, room, label, b.note)
	}
	return fmt.Sprintf("     %-*s %5.1fs  %s", labelWidth, label, time.Since(b.start).Seconds(), progress)
}

// finish ends the bar's line with what came of the step.
func (b *bar) finish(detail string, err error) {
	close(b.quit)
	b.drawn.Wait()
	mark := "ok  "
	if err != nil {
		mark, detail = "FAIL", err.Error()
	}
	if b.terminal {
		fmt.Fprint(b.out, "\r\x1b[K")
	}
	fmt.Fprintf(b.out, "%s %-*s %5.1fs  %s\n", mark, labelWidth, b.label, time.Since(b.start).Seconds(), detail)
}

func mebibytes(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

// count writes a number with a comma between thousands.
func count(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
