// Package refusal_test holds ours against upstream where something is refused: the answers to the same requests, byte for
// byte, and what each makes of the same answers.
package refusal_test

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/compat/member"
)

var proxied *sync.Map // hosts that the proxy of useProxy was asked for

func TestMain(m *testing.M) {
	flag.Parse()
	_ = flag.Set("test.parallel", "24") // these tests wait far more than they work: for time-outs of upstream's, above all
	var stop func()
	proxied, stop = useProxy()
	code := m.Run()
	stop()
	member.RemoveHelper()
	os.Exit(code)
}

// deviation is where ours answers differently on purpose. compat/README.md has the same table.
type deviation struct {
	what  string
	why   string
	names string                           // of the situations, a regular expression
	holds func(stock, ours response) error // says what is not as it is meant
}

var deviations = []deviation{
	{
		what:  "a header that does not parse is answered 400",
		why:   "upstream panics on a version and aborts the connection, takes a bad id for another, and panics on bad peer URLs",
		names: `, (X-Server-Version (3\.7|three|3\.7\.0\.0|-1\.0\.0)|X-Min-Cluster-Version (three|3)|X-(Server-From|Etcd-Cluster-ID|Raft-To) (zz|1000000000000\d+)|(pipeline|snapshot), X-PeerURLs .*)$`,
		holds: badRequest(`header X-[A-Za-z-]+: `),
	},
	{
		what:  "X-Server-From that is not the member of a stream's path is answered 400",
		why:   "one of the two is a lie",
		names: `stream, X-Server-From 3$`,
		holds: badRequest(`header X-Server-From differs from the path`),
	},
	{
		what:  "X-Server-From 0 is answered 400",
		why:   "raft allows no member 0, and upstream would add one as a remote",
		names: `, X-Server-From 0$`,
		holds: badRequest(`header X-Server-From: no member has the id 0`),
	},
	{
		what:  "a MsgSnap without a snapshot, or with an empty one, is answered 400",
		why:   "upstream panics on the first and hands the second to raft, which can only panic or ignore it",
		names: `^snapshot, body: no (snapshot|metadata)$`,
		holds: badRequest(`the message carries no snapshot`),
	},
	{
		what:  "a message for another member is answered 412",
		why:   "somebody has a wrong address; upstream leaves it to the server to look",
		names: `^pipeline, body: for another$`,
		holds: func(stock, ours response) error {
			if stock.Status != 204 || ours.Status != 412 || ours.Body != "to field mismatch\n" || !ours.Kept || ours.Told != 0 {
				return fmt.Errorf("not a 412 to field mismatch: %v", ours)
			}
			return nil
		},
	},
	{
		what:  "a body that cannot be read or decoded costs its connection",
		why:   "who sends one cannot be trusted to know where it ends; upstream reads on",
		names: `^pipeline, body: (cut off|no protobuf|a length beyond)$|^snapshot, body: (empty|no protobuf|a message cut off|a length (cut off|over the limit|of all ones))$`,
		holds: func(stock, ours response) error {
			if stock.Status != 400 || ours.Status != 400 || ours.Kept || ours.Told != 0 {
				return fmt.Errorf("not a 400 that closes: %v", ours)
			}
			return nil
		},
	},
	{
		what:  "the text of a 400 or 500 is our own",
		why:   "no member compares it; it is for logs",
		names: `^pipeline, body: |^snapshot, body: |^(pipeline|snapshot), raft answers |^snapshot, no disk`,
		holds: otherText,
	},
	{
		what:  "probing says that it answers JSON",
		why:   "it does; upstream lets net/http guess text/plain. No member looks",
		names: `^probing, `,
		holds: func(stock, ours response) error {
			if stock.Status != ours.Status || ours.Header["Content-Type"] != "application/json" {
				return fmt.Errorf("not an answer in JSON: %v", ours)
			}
			return nil
		},
	},
}

// badRequest accepts a 400 whose text begins with a pattern, after which the connection is kept and raft was told nothing.
func badRequest(text string) func(stock, ours response) error {
	pattern := regexp.MustCompile(`^` + text)
	return func(_, ours response) error {
		if ours.Status != 400 || !pattern.MatchString(ours.Body) || !ours.Kept || ours.Told != 0 {
			return fmt.Errorf("not a 400 %q: %v", text, ours)
		}
		return nil
	}
}

// otherText accepts answers that are alike but for their text.
func otherText(stock, ours response) error {
	if stock.Status != ours.Status || stock.Status < 400 || stock.Kept != ours.Kept || stock.Told != ours.Told || ours.Body == "" {
		return fmt.Errorf("differs in more than its text: %v", ours)
	}
	return nil
}

// TestAnswers sends the same requests to ours and to upstream. All answers are the same: status, text, headers, whether the
// connection is kept and whether raft was told; except for the deviations.
func TestAnswers(t *testing.T) {
	var used sync.Map
	t.Run("to", func(t *testing.T) {
		for name, s := range situations() {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				stock, ours := newAsked(t, member.Stock37, s.state).ask(t, s.request), newAsked(t, member.Ours, s.state).ask(t, s.request)
				if stock.String() == ours.String() {
					return
				}
				for _, d := range deviations {
					if regexp.MustCompile(d.names).MatchString(name) {
						used.Store(d.what, true)
						require.NoError(t, d.holds(stock, ours))
						return
					}
				}
				require.Equal(t, stock, ours)
			})
		}
	})
	for _, d := range deviations {
		_, ok := used.Load(d.what)
		require.True(t, ok, "no situation shows that %s", d.what)
	}
}
