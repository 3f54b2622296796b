package statuspage

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/seed-4d73690b/rafthttp"
)

// writeText writes the report for a terminal.
func writeText(w io.Writer, r *report) error {
	st := r.Status
	var b bytes.Buffer
	if st.ID == 0 {
		b.WriteString("The transport is not started.\n\n")
		textApplication(&b, r.Application)
		_, err := w.Write(append(bytes.TrimRight(b.Bytes(), "\n"), '\n'))
		return err
	}
	fmt.Fprintf(&b, "member %s of cluster %s, version %s, up %s\n", plain(r.Local.label()), st.ClusterID, st.Version, duration(st.Time.Sub(st.Started)))
	fmt.Fprintf(&b, "%s: %s\n", r.Health, plain(r.summary()))
	textProblems(&b, r.Problems)
	b.WriteByte('\n')
	textApplication(&b, r.Application)
	textPeers(&b, r)
	for _, p := range sickFirst(r.Peers) {
		textPeer(&b, st, p)
	}
	textGroups(&b, r)
	for _, s := range st.Receiving {
		fmt.Fprintf(&b, "\nsnapshot %d from %s: %s\n", s.Index, s.Peer, plain(progressOf(st.Time, s).Text))
	}
	if last := ending(st.Time, st.LastReceived); last != "" {
		fmt.Fprintf(&b, "\nlast snapshot from %s: %s\n", st.LastReceived.Peer, plain(last))
	}
	if failed := handshakes(st); len(failed) > 0 {
		fmt.Fprintf(&b, "\nTLS handshakes failed:\n")
		for _, line := range failed {
			fmt.Fprintf(&b, "  %s\n", plain(line))
		}
	}
	if len(st.Remotes) > 0 {
		fmt.Fprintf(&b, "\nremotes: %s\n", strings.Trim(fmt.Sprint(st.Remotes), "[]"))
	}
	_, err := b.WriteTo(w)
	return err
}

func textApplication(b *bytes.Buffer, a *application) {
	if a == nil || a.Error == "" && len(a.Facts) == 0 {
		return
	}
	if a.Error != "" {
		fmt.Fprintf(b, "application: %s\n", plain(a.Error))
	}
	tw := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	for _, f := range a.Facts {
		fmt.Fprintf(tw, "%s\t%s\n", plain(f.Name), plain(f.Value))
	}
	_ = tw.Flush()
	b.WriteByte('\n')
}

func textPeers(b *bytes.Buffer, r *report) {
	if len(r.Peers) == 0 {
		return
	}
	tw := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "PEER\tSTATE\tFOR\tVERSION\tRTT\tCLOCK\tSENT\tRECEIVED\tDROPPED\tCERTIFICATE")
	for _, p := range sickFirst(r.Peers) {
		v := newPeerView(r, p)
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", plain(p.label()), v.State, v.For, plain(v.Version),
			v.RTT, v.Clock, byteRate(p.SentRate), byteRate(p.ReceivedRate), textDropped(v.DroppedTotal, v.Dropped, v.Dropping), v.Certificate)
	}
	_ = tw.Flush() // to a buffer
}

func textProblems(b *bytes.Buffer, problems []problem) {
	for _, p := range problems {
		fmt.Fprintf(b, "  ! %s", plain(p.Text))
		if p.Since != "" {
			fmt.Fprintf(b, " (since %s)", p.Since)
		}
		b.WriteByte('\n')
	}
}

func textPeer(b *bytes.Buffer, st rafthttp.Status, p peerReport) {
	fmt.Fprintf(b, "\n%s %s: %s\n", p.what(), plain(p.label()), plain(strings.Join(p.p.URLs, " ")))
	textProblems(b, p.Problems)
	if p.p.LastError != "" {
		fmt.Fprintf(b, "  last error, %s: %s\n", ago(st.Time, p.p.LastErrorAt), plain(p.p.LastError))
	}
	for _, v := range newParts(p.p.Appends) {
		fmt.Fprintf(b, "  %s: %s", strings.ToLower(v.Name[:1])+v.Name[1:], v.Total)
		for i, one := range v.Parts {
			fmt.Fprintf(b, "%s %s %s", [...]string{" =", " +"}[min(i, 1)], one.Name, one.Took)
		}
		fmt.Fprintf(b, "; %s\n", v.Title)
	}
	tw := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	textLanes(tw, p, "  TO THE "+strings.ToUpper(p.what()), false)
	textLanes(tw, p, "  FROM THE "+strings.ToUpper(p.what()), true)
	_ = tw.Flush()
	tw = tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "  STREAM\tDIRECTION\tSTATE\tFOR\tCONNECTS\tFAILED DIALS\tBYTES")
	for _, s := range p.p.Streams {
		v := newStreamView(st.Time, s)
		fmt.Fprintf(tw, "  %s\t%s\t%s\t%s\t%s\t%s\t%s\n", s.Name, s.Direction, v.State, v.For, v.Connects, v.Failures, v.Bytes)
	}
	_ = tw.Flush()
	if p.groups {
		textNodeSnapshots(b, st.Time, p.p)
		return
	}
	for _, s := range p.p.Snapshots {
		fmt.Fprintf(b, "  snapshot %d: %s\n", s.Index, plain(progressOf(st.Time, s).Text))
	}
	if last := ending(st.Time, p.p.LastSnapshot); last != "" {
		fmt.Fprintf(b, "  last snapshot %s\n", plain(last))
	}
}

// textLanes writes the lanes in one direction.
func textLanes(w io.Writer, p peerReport, head string, in bool) {
	fmt.Fprintln(w, head+"\tUP\tQUEUED\tBYTES\tFILL\tOLDEST\tMESSAGES\tRATE\tBATCH\tDROPPED")
	for _, l := range p.Lanes {
		if laneTexts[l.Name].in != in {
			continue
		}
		v := newLaneView(l)
		fmt.Fprintf(w, "  %s\t%s\t%d/%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", l.Name, v.State, l.l.Queued, l.l.Capacity,
			bytesOf(float64(l.l.QueuedBytes)), v.Fill, v.Oldest, v.Messages, v.Rate, v.Batch, textDropped(l.l.Dropped, v.Dropped, v.Dropping))
	}
}

// textDropped returns the total, with the current drops.
func textDropped(total uint64, text string, now bool) string {
	if !now {
		return text
	}
	return count(float64(total)) + " (" + text + ")"
}
