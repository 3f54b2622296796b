package health

import (
	"fmt"
	"iter"
	"regexp"
	"time"

	"github.com/seed-4d73690b/rafthttp/internal/errs"
)

// contents says what each lane carries, and whether from the peer.
var contents = map[string]string{
	"message":   "all except appends to it",
	"msgapp":    "appends to it",
	"pipeline":  "fallback POSTs to it",
	"group":     "all except appends to it",
	"groupapp":  "appends to it",
	"grouppost": "fallback POSTs to it",
	"control":   "heartbeats, votes, responses from it",
	"append":    "appends from it",
	"proposal":  "proposals from it",
}

// Reasons returns the reasons of drops that are counted.
func Reasons[R ~string](counts iter.Seq2[R, uint64]) (reasons []string) {
	for reason, n := range counts {
		if n > 0 {
			reasons = append(reasons, string(reason))
		}
	}
	return reasons
}

// title names a lane in a sentence.
func title(lane string) string { return fmt.Sprintf("%s (%s)", lane, contents[lane]) }

func directionOf(out bool) string {
	if out {
		return "to it"
	}
	return "from it"
}

// addresses are the parts of an error that repeat to whom it was, and where it dialled.
var addresses = regexp.MustCompile(`^(?:\w+ stream of|post to|snapshot \d+ to) \w+ at \S+: |(?:(?:Get|Post) "[^"]*": )?dial \w+ \S+: (?:connect: )?`)

// ShortCause shortens an error for a line of text.
func ShortCause(err string) string {
	const limit = 140
	r := []rune(errs.Plain(addresses.ReplaceAllString(err, ""), 4*limit))
	if len(r) > limit {
		r = append(r[:limit-1], '…')
	}
	return string(r)
}

// duration writes d with its two largest units.
func duration(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%.0f ms", float64(d)/1e6)
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
	default:
		return fmt.Sprintf("%d days", int(d.Hours()/24))
	}
}

func offset(d time.Duration) string {
	if d < 0 {
		return duration(-d) + " behind"
	}
	return duration(d) + " ahead"
}

func perSecond(rate float64) string {
	if rate < 10 {
		return fmt.Sprintf("%.1f/s", rate)
	}
	return fmt.Sprintf("%.0f/s", rate)
}
