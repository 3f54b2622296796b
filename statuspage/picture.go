package statuspage

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// Sizes in the picture, in its own units.
const (
	pictureWidth = 500.0
	nodeWidth    = 116.0
	nodeHeight   = 48.0
	localRadius  = 36.0
	reach        = (pictureWidth-nodeWidth)/2 - 4 // from the middle to that of a peer, at most
	linkGap      = 5.0                            // from the middle to the nearer edge of a link
	headLength   = 9.0
	maxRound     = 6  // peers around the local member; more are in two columns
	maxPictured  = 16 // peers; more are not drawn
)

// picture is the cluster as the local member sees it: itself in the middle, and
// two links to each peer.
type picture struct {
	Width, Height, X, Y, R float64
	Local, LocalTitle      string
	Nodes                  []node
	More                   int
	Text                   string // description for clients that cannot show the picture
}

// marks show a level without colours.
var marks = [...]string{good: "✓", warn: "!", bad: "✕"}

// node is a peer in the picture.
type node struct {
	ID, Label, Title, Line, Mark string
	Health                       level
	X, Y, W, H                   float64 // of the upper left corner; size
	TextX, Text1, Text2          float64
	Links                        [2]link
}

// link is one direction between the local member and a peer.
type link struct {
	X1, Y1, X2, Y2, Width float64
	Head                  string // points of the arrow
	Health                level
	Title                 string
}

func newPicture(r *report) picture {
	peers := r.Peers
	p := picture{Width: pictureWidth, R: localRadius, Local: short(nameOf(r.Local), 7), LocalTitle: "this member, " + r.Local.label()}
	if len(peers) > maxPictured {
		p.More = len(peers) - maxPictured
		peers = sickFirst(r.Peers)[:maxPictured]
		slices.SortFunc(peers, func(a, b peerReport) int { return cmp.Compare(a.p.ID, b.p.ID) })
	}
	all, ry := places(len(peers))
	p.Height = 2*ry + nodeHeight + 8
	p.X, p.Y = pictureWidth/2, p.Height/2
	if len(peers) == 1 {
		p.X = localRadius + 64
	}
	for i, at := range all {
		x, y := pictureWidth/2+reach*at.x, p.Height/2+ry*at.y
		aim := x
		if at.inner {
			aim -= math.Copysign(nodeWidth/2, at.x)
		}
		p.Nodes = append(p.Nodes, newNode(p, peers[i], x, y, aim))
	}
	p.Text = pictureText(r)
	return p
}

// place is the position of a peer, from -1 to 1, and the target of its links: its middle,
// or the middle of its inner side.
type place struct {
	x, y  float64
	inner bool
}

// places returns the positions of peers around the middle, and the vertical radius
// of the picture.
func places(n int) (all []place, ry float64) {
	ry = 110 + 22*math.Max(0, float64(n-4))
	switch n {
	case 0:
		return nil, localRadius
	case 1:
		return []place{{x: 0.8}}, localRadius
	case 2:
		return []place{{x: -1}, {x: 1}}, 1.5 * localRadius
	}
	if n > maxRound {
		return columns(n), float64((n+1)/2-1) * (nodeHeight + 14) / 2
	}
	turn := -math.Pi / 2
	if n%2 == 0 {
		turn -= math.Pi / float64(n)
	}
	var widest, highest float64
	for i := range n {
		angle := turn + 2*math.Pi*float64(i)/float64(n)
		p := place{x: math.Cos(angle), y: math.Sin(angle)}
		widest, highest = math.Max(widest, math.Abs(p.x)), math.Max(highest, math.Abs(p.y))
		all = append(all, p)
	}
	for i := range all {
		all[i].x /= widest
		all[i].y /= highest
	}
	return all, ry
}

// columns returns the places of many peers: left and right of the middle.
func columns(n int) (all []place) {
	left := (n + 1) / 2
	for i := range n {
		p := place{x: -1, inner: true}
		row, rows := i, left
		if i >= left {
			p.x, row, rows = 1, i-left, n-left
		}
		p.y = 2*float64(row)/float64(left-1) - float64(rows-1)/float64(left-1)
		all = append(all, p)
	}
	return all
}

func nameOf(m memberName) string {
	if m.Name != "" {
		return m.Name
	}
	return m.Member
}

// pictureText describes the picture in words.
func pictureText(r *report) string {
	var parts []string
	for _, p := range r.Peers {
		text := fmt.Sprintf("peer %s: %s", p.label(), p.Health)
		if len(p.Problems) > 0 {
			text += " (" + texts(p.Problems) + ")"
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, "; ")
}

func texts(problems []problem) string {
	var all []string
	for _, p := range problems {
		all = append(all, p.Text)
	}
	return strings.Join(all, ", ")
}

func newNode(p picture, peer peerReport, x, y, aim float64) node {
	n := node{
		ID: peer.Member, Label: short(nameOf(peer.memberName), 9), Title: "peer " + peer.label(), Health: peer.Health,
		Mark: marks[peer.Health],
		X:    round(x - nodeWidth/2), Y: round(y - nodeHeight/2), W: nodeWidth, H: nodeHeight,
		TextX: round(x), Text1: round(y - 4), Text2: round(y + 14), Line: "inactive",
	}
	if len(peer.Problems) > 0 {
		n.Title += ": " + texts(peer.Problems)
	}
	if peer.p.Active {
		n.Line = "active"
		if !peer.staleProbe() {
			n.Line = "RTT " + duration(peer.p.RTT.Round(10*time.Microsecond))
		}
	}
	n.Links[0] = newLink(p, x, y, aim, peer.SentRate, peer.out, true)
	n.Links[0].Title = fmt.Sprintf("to %s: %s, %s", peer.label(), linkState(peer.out), byteRate(peer.SentRate))
	n.Links[1] = newLink(p, x, y, aim, peer.ReceivedRate, peer.in, false)
	n.Links[1].Title = fmt.Sprintf("from %s: %s, %s", peer.label(), linkState(peer.in), byteRate(peer.ReceivedRate))
	return n
}

func linkState(l level) string {
	return [...]string{"both streams up", "one stream down", "both streams down"}[l]
}

// linkWidth grows with the logarithm of the traffic: 1.5 for none, 9 for 100 MB/s.
func linkWidth(r *float64) float64 {
	if r == nil {
		return 1.5
	}
	return math.Min(9, 1.5+1.25*math.Log10(1+*r/100))
}

// newLink draws from the edge of the local member to that of the peer at x, y, or
// back, beside the line to aim, y.
func newLink(p picture, x, y, aim float64, rate *float64, health level, out bool) link {
	l := link{Width: round(linkWidth(rate)), Health: health}
	dx, dy := aim-p.X, y-p.Y
	d := math.Hypot(dx, dy)
	dx, dy = dx/d, dy/d
	side := linkGap + l.Width/2
	if !out {
		side = -side
	}
	ox, oy := p.X-dy*side, p.Y+dx*side // on the line of the link, beside the local member
	start := math.Sqrt(localRadius*localRadius-side*side) + 3
	end := enter(x-ox, y-oy, dx, dy) - 3
	half := l.Width/2 + 3.5
	tip, base, from := end, end-headLength, start
	if !out {
		tip, base, from = start, start+headLength, end
	}
	at := func(t, s float64) (float64, float64) { return round(ox + dx*t - dy*s), round(oy + dy*t + dx*s) }
	l.X1, l.Y1 = at(from, 0)
	l.X2, l.Y2 = at(base, 0)
	ax, ay := at(tip, 0)
	bx, by := at(base, half)
	cx, cy := at(base, -half)
	l.Head = fmt.Sprintf("%g,%g %g,%g %g,%g", ax, ay, bx, by, cx, cy)
	return l
}

// enter returns the distance along the direction at which a line from 0, 0 enters the box of a
// peer whose middle is at x, y.
func enter(x, y, dx, dy float64) float64 {
	t := 0.0
	if math.Abs(dx) > 1e-9 {
		t = math.Max(t, x/dx-nodeWidth/2/math.Abs(dx))
	}
	if math.Abs(dy) > 1e-9 {
		t = math.Max(t, y/dy-nodeHeight/2/math.Abs(dy))
	}
	return t
}

func round(v float64) float64 { return math.Round(v*10) / 10 }
