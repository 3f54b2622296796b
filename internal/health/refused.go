package health

import (
	"strings"
	"time"
)

// Refused are refusals for a wrong identity that go on.
type Refused struct {
	Since  time.Time // the zero time: there are none
	Counts Counts
}

// Counts are the numbers of refusals.
type Counts struct {
	Dials, Requests, Messages, OtherCluster uint64
}

// refused finds refusals that go on: one problem for all of a peer, or of those that state none.
func (c *check) refused(r Refused, what string) {
	if r.Since.IsZero() {
		return
	}
	var total uint64
	var kinds []string
	for _, k := range []struct {
		n    uint64
		what string
	}{
		{r.Counts.Dials, "dials"}, {r.Counts.Requests, "requests"}, {r.Counts.Messages, "messages"}, {r.Counts.OtherCluster, "requests of another cluster"},
	} {
		if total += k.n; k.n > 0 {
			kinds = append(kinds, k.what)
		}
	}
	c.add(Warning, IdentityRefused, r.Since, "refuses %s, %s: %s", what, perSecond(c.rate(total, r.Since)), strings.Join(kinds, ", "))
}

// rate is how many of n events since then there are in a second.
func (c *check) rate(n uint64, since time.Time) float64 {
	return float64(n) / max(1, c.now.Sub(since).Seconds())
}
