package member

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/seed-4d73690b/rafthttp/internal/bubble"
	"github.com/seed-4d73690b/rafthttp/internal/errs"
)

var errCut = errors.New("cut")

// observed returns the activity of a peer, what it was told, and its log.
func observed() (a *Activity, told *[]error, lines *observer.ObservedLogs) {
	core, lines := observer.New(zap.InfoLevel)
	a, told = newActivity(zap.New(core), 5*time.Second), new([]error)
	a.Changed = func(active bool, cause error) {
		if active != (cause == nil) {
			panic("a peer that is active has no cause, any other has one")
		}
		*told = append(*told, cause)
	}
	return a, told, lines
}

// TestActivity: a peer is active from the first stream that delivers, or the first post, until nothing speaks for it.
func TestActivity(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(a *Activity)
		told []error // nil: it became active
	}{
		{"nothing", func(a *Activity) { a.PostFailed(time.Now(), errCut); a.Tick() }, nil},
		{"stream", func(a *Activity) { a.StreamUp() }, []error{nil}},
		{"stream that ends", func(a *Activity) { a.StreamUp(); a.StreamDown(time.Now(), errCut) }, []error{nil, errCut}},
		{"one of two streams", func(a *Activity) { a.StreamUp(); a.StreamUp(); a.StreamDown(time.Now(), errCut) }, []error{nil}},
		{"post that fails beside a stream", func(a *Activity) { a.StreamUp(); a.PostOK(time.Now()); a.PostFailed(time.Now(), errCut) }, []error{nil}},
		{"dial that fails", func(a *Activity) { a.PostOK(time.Now()); a.DialFailed(time.Now(), errCut) }, []error{nil}},
		{"post that fails", func(a *Activity) { a.PostOK(time.Now()); a.PostFailed(time.Now(), errCut) }, []error{nil, errCut}},
		{"post that fails after one of the peer", func(a *Activity) { a.PostOf(); a.PostFailed(time.Now(), errCut) }, []error{nil}},
		{"stream that ends after a post", func(a *Activity) { a.StreamUp(); a.PostOK(time.Now()); a.StreamDown(time.Now(), errCut) }, []error{nil}},
		{"nothing more", func(a *Activity) { a.PostOK(time.Now()); time.Sleep(5 * time.Second); a.Tick() }, []error{nil, errs.ErrStalled}},
		{"not yet", func(a *Activity) { a.PostOK(time.Now()); time.Sleep(5*time.Second - 1); a.Tick() }, []error{nil}},
		{"end", func(a *Activity) { a.StreamUp(); a.End(errCut); a.StreamUp(); a.PostOK(time.Now()) }, []error{nil, errCut}},
		{"end of one that is not active", func(a *Activity) { a.End(errCut); a.PostOf() }, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				a, told, _ := observed()
				c.do(a)
				require.Equal(t, c.told, *told, "told")
				st := a.State()
				require.Equal(t, len(c.told)%2 == 1, !st.Since.IsZero())
				require.Equal(t, st.Since, a.ActiveSince())
				require.EqualValues(t, len(c.told)/2, st.Ends)
			})
		})
	}
}

// TestActivityIsLoggedInTheEnd: when there were too many changes for the log, it has the last state once there may be lines
// again.
func TestActivityIsLoggedInTheEnd(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		a, told, lines := observed()
		for range 100 {
			a.StreamUp()
			a.StreamDown(time.Now(), errCut)
		}
		a.StreamUp()
		require.Len(t, *told, 201)
		require.LessOrEqual(t, lines.Len(), 10)
		for range 20 {
			time.Sleep(10 * time.Second)
			a.Tick()
		}
		all := lines.All()
		require.Equal(t, "peer became active", all[len(all)-1].Message)
		require.LessOrEqual(t, len(all), 12)
	})
}

// TestFormerURLs: what was under way to the URLs before says nothing of the present ones, whatever it was and however it ended.
func TestFormerURLs(t *testing.T) {
	for name, end := range map[string]func(a *Activity, began time.Time){
		"a post that fails":     func(a *Activity, began time.Time) { a.PostFailed(began, errCut) },
		"a post that succeeds":  func(a *Activity, began time.Time) { a.PostOK(began) },
		"a dial that fails":     func(a *Activity, began time.Time) { a.DialFailed(began, errCut) },
		"a stream that ends":    func(a *Activity, began time.Time) { a.StreamUp(); a.StreamDown(began, errCut) },
		"a stream that is ours": func(a *Activity, _ time.Time) { a.StreamUp(); a.StreamMoved(errCut) },
	} {
		for _, active := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, active %v", name, active), func(t *testing.T) {
				bubble.Test(t, func(t *testing.T) {
					a, _, _ := observed()
					began := time.Now()
					time.Sleep(time.Second)
					a.Moved()
					if active {
						a.PostOK(time.Now())
					}
					end(a, began)
					require.NoError(t, a.State().Last)
					require.Equal(t, active, !a.ActiveSince().IsZero())
				})
			})
		}
	}
}
