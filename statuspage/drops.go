package statuspage

import (
	"fmt"
	"strings"

	"github.com/seed-4d73690b/rafthttp"
)

func reasonText(r rafthttp.DropReason) string { return strings.ReplaceAll(string(r), "_", " ") }

// dropsText returns a rate of drops with its reasons.
func dropsText(rate *float64, reasons []string) string {
	return messageRate(rate) + ": " + strings.Join(reasons, ", ")
}

// droppedText returns the current drops, or else the total.
func droppedText(rate *float64, reasons []string, total uint64) (text string, now bool) {
	if rate != nil && *rate > 0 {
		return dropsText(rate, reasons), true
	}
	return count(float64(total)), false
}

// dropTitle returns the reasons of drops since the start, over all lanes.
func dropTitle(lanes []rafthttp.LaneStatus) string {
	sums := map[rafthttp.DropReason]uint64{}
	for _, l := range lanes {
		for reason, n := range l.Drops.All() {
			sums[reason] += n
		}
	}
	var parts []string
	for reason := range (rafthttp.Drops{}).All() {
		if n := sums[reason]; n > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", reasonText(reason), n))
		}
	}
	return strings.Join(parts, ", ")
}
