package statuspage

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/seed-4d73690b/rafthttp"
)

// laneView is one row of a peer's lanes.
type laneView struct {
	Name, Text, State     string
	Health                level
	Fill, FillTitle       string
	FillWidth             float64 // of 100
	Queued, Oldest        string
	Messages, Rate, Batch string
	Dropped, DroppedTitle string
	Up, Idle, Dropping    bool
	Spark                 spark
}

// laneTexts describe the lanes. Those named group are of raft groups.
var laneTexts = map[string]struct {
	in       bool
	contents string
}{
	"message":   {false, "all except appends"},
	"msgapp":    {false, "appends"},
	"pipeline":  {false, "fallback POSTs"},
	"group":     {false, "all except appends"},
	"groupapp":  {false, "appends"},
	"grouppost": {false, "fallback POSTs"},
	"control":   {true, "heartbeats, votes, responses"},
	"append":    {true, "appends"},
	"proposal":  {true, "proposals"},
}

// directionOf describes the direction of a stream.
func directionOf(s rafthttp.StreamStatus) string {
	if s.Direction == rafthttp.StreamOut {
		return "to it"
	}
	return "from it"
}

func newLaneView(lr laneReport) laneView {
	l := lr.l
	v := laneView{
		Name: l.Name, Text: sentence(laneTexts[l.Name].contents), State: map[bool]string{true: "up", false: "down"}[l.Up], Up: l.Up, Health: lr.Health,
		Fill: percent(lr.Fill), FillWidth: 100 * math.Min(1, lr.Fill),
		FillTitle: fmt.Sprintf("%d of %d messages, %s of %s", l.Queued, l.Capacity, bytesOf(float64(l.QueuedBytes)), bytesOf(float64(l.CapacityBytes))),
		Queued:    count(float64(l.Queued)), Oldest: none, Idle: l.Queued == 0 && l.Messages == 0 && l.Dropped == 0,
		Messages: count(float64(l.Messages)), Rate: messageRate(lr.MessageRate), Batch: none,
		DroppedTitle: dropTitle([]rafthttp.LaneStatus{l}), Spark: newSpark(lr.points, false),
	}
	v.Dropped, v.Dropping = droppedText(lr.DropRate, lr.DropReasons, l.Dropped)
	if v.FillWidth > 0 {
		v.FillWidth = math.Max(v.FillWidth, 1.5) // to be visible
	}
	if l.Queued > 0 {
		v.Oldest = duration(l.OldestAge)
	}
	if l.Batches > 0 && l.Messages > 0 {
		v.Batch = fmt.Sprintf("%.1f", float64(l.Messages)/float64(l.Batches))
	}
	return v
}

// sentence capitalizes the first letter.
func sentence(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

func percent(f float64) string {
	switch {
	case f == 0:
		return "0 %"
	case f < 0.01:
		return "< 1 %"
	default:
		return fmt.Sprintf("%.0f %%", 100*f)
	}
}

// streamView is one row of a peer's streams.
type streamView struct {
	Name, Direction, State    string
	For, Since                string
	Connects, Failures, Bytes string
	Health                    level
}

func newStreamView(now time.Time, s rafthttp.StreamStatus) streamView {
	v := streamView{
		Name: s.Name, Direction: directionOf(s), State: "down", For: none, Since: machine(s.Since), Health: warn,
		Connects: count(float64(s.Connects)), Failures: count(float64(s.DialFailures)), Bytes: bytesOf(float64(s.Bytes)),
	}
	if s.Direction == rafthttp.StreamOut {
		v.Failures = none
	}
	if s.Up {
		v.State, v.Health, v.For = "up", good, duration(max(0, now.Sub(s.Since)))
	}
	return v
}

// progress is the progress of a snapshot.
type progress struct {
	Known   bool // the total is known
	Percent float64
	Text    string
}

func progressOf(now time.Time, s rafthttp.SnapshotStatus) progress {
	p, done := progress{}, bytesOf(float64(s.Bytes))
	var parts []string
	if s.Total >= 0 {
		p.Known = true
		if p.Percent = 100; s.Total > 0 {
			p.Percent = math.Min(100, 100*float64(s.Bytes)/float64(s.Total))
		}
		done = fmt.Sprintf("%.0f %%, %s of %s", p.Percent, done, bytesOf(float64(s.Total)))
	}
	if !s.Incoming && s.Attempts == 0 {
		parts = append(parts, "waiting for a place")
	} else {
		parts = append(parts, done)
	}
	parts = append(parts, "for "+duration(now.Sub(s.Started)))
	if s.Rate > 0 {
		parts = append(parts, byteRate(&s.Rate))
	}
	if s.ETA > 0 {
		parts = append(parts, "about "+duration(s.ETA)+" to go")
	}
	if s.Attempts > 1 {
		parts = append(parts, fmt.Sprintf("attempt %d", s.Attempts))
	}
	if s.Error != "" {
		parts = append(parts, "last failure: "+s.Error)
	}
	p.Text = strings.Join(parts, ", ")
	return p
}

// ending describes the result of a finished snapshot; empty if there is none.
func ending(now time.Time, s *rafthttp.SnapshotStatus) string {
	if s == nil || s.Ended.IsZero() {
		return ""
	}
	text := fmt.Sprintf("%d, %s in %s, %s", s.Index, bytesOf(float64(s.Bytes)), duration(s.Ended.Sub(s.Started)), ago(now, s.Ended))
	if s.Error != "" {
		text += ", failed: " + s.Error
	}
	return text
}

// snapshotView is one progress bar.
type snapshotView struct {
	progress
	Index, Way string
}

func newSnapshotView(now time.Time, s rafthttp.SnapshotStatus, way string) snapshotView {
	return snapshotView{progressOf(now, s), strconv.FormatUint(s.Index, 10), way}
}
