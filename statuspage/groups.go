package statuspage

import (
	"bytes"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"

	"github.com/seed-4d73690b/rafthttp"
)

// worstGroups is how many raft groups are shown without being asked for, and maxWorst how many at most.
const (
	worstGroups = 20
	maxWorst    = 1000
)

// groupsReport has what is derived from GroupsStatus, and the groups that were asked for.
type groupsReport struct {
	Nodes []peerReport           `json:"nodes"`
	Worst []rafthttp.GroupStatus `json:"worst,omitempty"`
	Group *rafthttp.GroupStatus  `json:"group,omitempty"`

	asked groupQuery
}

// groupQuery is what a request wants to know of single groups.
type groupQuery struct {
	worst int    // how many
	group uint64 // 0: none
}

// groupQueryOf returns what a request asks for, by the parameters groups and group.
func groupQueryOf(q url.Values, format string) (a groupQuery, err error) {
	if format == "html" || format == "text" {
		a.worst = worstGroups
	}
	if n := q.Get("groups"); n != "" {
		if a.worst, err = strconv.Atoi(n); err != nil || a.worst < 0 || a.worst > maxWorst {
			return a, fmt.Errorf("groups: want a number of groups from 0 to %d", maxWorst)
		}
	}
	if id := strings.TrimSpace(q.Get("group")); id != "" {
		if a.group, err = strconv.ParseUint(id, 10, 64); err != nil || a.group == 0 {
			return a, fmt.Errorf("group: want the number of a raft group")
		}
	}
	return a, nil
}

// addGroups adds the groups that a request asks for. It looks at none without being asked.
func (r *report) addGroups(t *rafthttp.Transport, a groupQuery) {
	if r.Groups == nil {
		return
	}
	r.Groups.asked = a
	if a.worst > 0 {
		r.Groups.Worst = t.WorstGroups(a.worst)
	}
	if st, ok := t.GroupStatus(a.group); ok && a.group != 0 {
		r.Groups.Group = &st
	}
}

// activeNodes returns the number of active nodes of groups, and of all.
func (r *report) activeNodes() (active, all int) {
	if r.Groups == nil {
		return 0, 0
	}
	for _, n := range r.Groups.Nodes {
		if n.p.Active {
			active++
		}
	}
	return active, len(r.Groups.Nodes)
}

// groupsView is the section about raft groups.
type groupsView struct {
	Facts     []fact
	Kinds     []kindView
	Strangers []strangersView // empty: there are none, and were none
	Nodes     []peerView
	Worst     []groupView
	Found     []groupView // that was asked for
	Asked     string      // its number; empty: none
	WorstName string
}

// kindView is one row of the calls of Process.
type kindView struct {
	Name, Waiting, Running, Blocked, Longest, Messages string
	Health                                             level
}

// strangersView is one row of messages from replicas that their groups do not have.
type strangersView struct {
	Name, Queued, QueuedTitle, Fill, Oldest, Dropped, DroppedTitle string
	Health                                                         level
}

// newStrangersViews returns the rows, if there is anything to say.
func newStrangersViews(all []rafthttp.LaneStatus) (views []strangersView) {
	if !slices.ContainsFunc(all, func(l rafthttp.LaneStatus) bool { return l.Queued > 0 || l.Dropped > 0 }) {
		return nil
	}
	for _, l := range all {
		lane := newLaneView(laneReport{l: l, Fill: fill(l)})
		v := strangersView{
			Name: l.Name, Queued: fmt.Sprintf("%d/%d", l.Queued, l.Capacity), QueuedTitle: lane.FillTitle, Fill: lane.Fill, Oldest: lane.Oldest,
			Dropped: count(float64(l.Dropped)), DroppedTitle: lane.DroppedTitle,
		}
		if !l.FullSince.IsZero() || !l.DroppingSince.IsZero() {
			v.Health = warn
		}
		views = append(views, v)
	}
	return views
}

// groupView is one row of groups.
type groupView struct {
	ID, Replica, State, Replicas, Title, Queued, Dropped, Refused string
	Health                                                        level
}

func newGroupsView(r *report) *groupsView {
	g, st := r.Groups, r.Status.Groups
	if g == nil {
		return nil
	}
	active, all := r.activeNodes()
	v := &groupsView{
		Facts: []fact{
			{Name: "Groups", Value: strconv.Itoa(st.Groups)},
			{Name: "Active nodes", Value: fmt.Sprintf("%d of %d", active, all)},
			{Name: "Messages for unknown groups", Value: count(float64(st.Unknown))},
		},
		WorstName: fmt.Sprintf("The worst %d of %d", len(g.Worst), st.Groups),
	}
	if len(g.Worst) >= st.Groups {
		v.WorstName = "All, the worst first"
	}
	for _, p := range st.Processing {
		v.Kinds = append(v.Kinds, newKindView(p))
	}
	v.Strangers = newStrangersViews(st.Strangers)
	for _, n := range sickFirst(g.Nodes) {
		v.Nodes = append(v.Nodes, newPeerView(r, n))
	}
	for _, w := range g.Worst {
		v.Worst = append(v.Worst, newGroupView(w))
	}
	if g.asked.group != 0 {
		v.Asked = strconv.FormatUint(g.asked.group, 10)
	}
	if g.Group != nil {
		v.Found = []groupView{newGroupView(*g.Group)}
	}
	return v
}

func newKindView(p rafthttp.ProcessingStatus) kindView {
	v := kindView{
		Name: p.Name, Waiting: count(float64(p.Waiting)), Running: strconv.Itoa(p.Running), Blocked: strconv.Itoa(p.Blocked), Longest: none,
		Messages: count(float64(p.Messages)),
	}
	if p.Blocked > 0 {
		v.Health, v.Longest = warn, fmt.Sprintf("%s by group %d", duration(p.BlockedFor), p.BlockedGroup)
	}
	return v
}

func newGroupView(g rafthttp.GroupStatus) groupView {
	v := groupView{
		ID: strconv.FormatUint(g.ID, 10), Replica: types.ID(g.Replica).String(), State: "ok",
		Queued: bytesOf(float64(g.QueuedBytes)), Dropped: count(float64(g.Dropped + g.Drops.Local)), Refused: count(float64(g.Refused)),
	}
	active := 0
	var replicas []string
	for _, r := range g.Replicas {
		state := "inactive"
		if !r.ActiveSince.IsZero() {
			state = "active"
			active++
		}
		replicas = append(replicas, fmt.Sprintf("%s on node %s, %s", types.ID(r.ID), r.Node, state))
	}
	v.Replicas, v.Title = fmt.Sprintf("%d of %d", active, len(replicas)), strings.Join(replicas, "; ")
	switch {
	case g.BlockedFor > 0:
		v.Health, v.State = warn, "blocked for "+duration(g.BlockedFor.Round(time.Millisecond))
	case g.Failing:
		v.Health, v.State = warn, "Process fails"
	case active < len(replicas):
		v.Health, v.State = warn, "replicas inactive"
	}
	return v
}

// snapshotsFact says how many snapshots of groups wait for a node, and how others have ended.
func snapshotsFact(s rafthttp.GroupSnapshots) fact {
	return fact{Name: "Snapshots waiting", Value: count(float64(s.Waiting)), Title: endedSnapshots(s)}
}

func endedSnapshots(s rafthttp.GroupSnapshots) string {
	n := func(n uint64) string { return count(float64(n)) }
	return fmt.Sprintf("sent %s, failed to send %s, received %s, failed to receive %s", n(s.Sent), n(s.SendFailures), n(s.Received), n(s.ReceiveFailures))
}

// wayOf says where a snapshot in progress goes, and of which group it is.
func wayOf(s rafthttp.SnapshotStatus) string {
	switch {
	case s.Group == 0:
		return "to the peer"
	case s.Incoming:
		return fmt.Sprintf("of group %d from the node", s.Group)
	}
	return fmt.Sprintf("of group %d to the node", s.Group)
}

// endingOfGroup is ending with the group.
func endingOfGroup(now time.Time, s *rafthttp.SnapshotStatus) string {
	if s == nil {
		return ""
	}
	return fmt.Sprintf("of group %d, %s", s.Group, ending(now, s))
}

// textNodeSnapshots writes what there is of the snapshots of groups with a node.
func textNodeSnapshots(b *bytes.Buffer, now time.Time, p rafthttp.PeerStatus) {
	for _, s := range append(slices.Clone(p.Snapshots), p.GroupSnapshots.Receiving...) {
		fmt.Fprintf(b, "  snapshot %d %s: %s\n", s.Index, wayOf(s), plain(progressOf(now, s).Text))
	}
	if all := p.GroupSnapshots; all.Waiting > 0 || p.LastSnapshot != nil || p.LastReceived != nil {
		fmt.Fprintf(b, "  snapshots: waiting %s, %s\n", count(float64(all.Waiting)), endedSnapshots(all))
	}
	if last := endingOfGroup(now, p.LastSnapshot); last != "" {
		fmt.Fprintf(b, "  last snapshot sent %s\n", plain(last))
	}
	if last := endingOfGroup(now, p.LastReceived); last != "" {
		fmt.Fprintf(b, "  last snapshot received %s\n", plain(last))
	}
}

// textGroups writes the section about raft groups.
func textGroups(b *bytes.Buffer, r *report) {
	v := newGroupsView(r)
	if v == nil {
		return
	}
	fmt.Fprintf(b, "\nraft groups: %s; nodes active: %s; messages for unknown groups: %s\n", v.Facts[0].Value, v.Facts[1].Value, v.Facts[2].Value)
	tw := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "  PROCESS\tWAITING\tRUNNING\tBLOCKED\tLONGEST\tMESSAGES")
	for _, k := range v.Kinds {
		fmt.Fprintf(tw, "  %s\t%s\t%s\t%s\t%s\t%s\n", k.Name, k.Waiting, k.Running, k.Blocked, k.Longest, k.Messages)
	}
	if len(v.Strangers) > 0 {
		_ = tw.Flush() // to a buffer
		fmt.Fprintln(tw, "  STRANGERS\tQUEUED\tFILL\tOLDEST\tDROPPED")
	}
	for _, s := range v.Strangers {
		fmt.Fprintf(tw, "  %s\t%s\t%s\t%s\t%s\n", s.Name, s.Queued, s.Fill, s.Oldest, s.Dropped)
	}
	_ = tw.Flush()
	for _, n := range sickFirst(r.Groups.Nodes) {
		textPeer(b, r.Status, n)
	}
	switch {
	case len(v.Found) > 0:
		textGroupRows(b, "GROUP", v.Found)
		fmt.Fprintf(b, "  replicas: %s\n", v.Found[0].Title)
	case v.Asked != "":
		fmt.Fprintf(b, "\nThere is no group %s here.\n", v.Asked)
	}
	if len(v.Worst) > 0 {
		textGroupRows(b, "WORST", v.Worst)
	}
}

func textGroupRows(b *bytes.Buffer, head string, rows []groupView) {
	b.WriteByte('\n')
	tw := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, head+"\tREPLICA\tSTATE\tACTIVE\tQUEUED\tDROPPED\tREFUSED")
	for _, g := range rows {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", g.ID, g.Replica, g.State, g.Replicas, g.Queued, g.Dropped, g.Refused)
	}
	_ = tw.Flush()
}
