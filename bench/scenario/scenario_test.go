package scenario_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/bench/scenario"
	"github.com/seed-4d73690b/rafthttp/bench/system"
)

// tiny is enough to see that all that is sent arrives, and not enough for figures.
var tiny = scenario.Settings{
	WarmUp: 5 * time.Millisecond, Measure: 20 * time.Millisecond, Idle: time.Millisecond, DatabaseBytes: 3<<20 + 7,
	Follow: 2 * time.Second, Part: 0.02,
}

func TestEveryScenarioOnEverySystem(t *testing.T) {
	for _, sc := range scenario.All() {
		for _, sys := range system.All() {
			if sc.Skips(sys) {
				continue
			}
			t.Run(sc.ID+"/"+sys.Name, func(t *testing.T) {
				sc.Peers, sc.Window = min(sc.Peers, 6), min(max(sc.Window, 8), 64)
				settings := tiny
				settings.Folders = map[string]string{scenario.Disk: t.TempDir(), scenario.Memory: t.TempDir()}
				outcome, err := sc.Run(sys, settings)
				require.NoError(t, err)
				figures := outcome.Figures
				for _, m := range sc.Metrics {
					require.Contains(t, figures, m)
				}
				require.NotZero(t, figures[sc.Metrics[0]])
				require.Len(t, figures, len(sc.Metrics))
			})
		}
	}
}

func TestSelect(t *testing.T) {
	for list, want := range map[string][]string{
		"A": {"A"}, "d,a": {"A", "D"}, "C": {"C", "C'"}, "C'": {"C'"}, "F": {"FA", "FC"},
		"S": {"SD", "SM", "SDC", "SMC", "SH"}, "slow-line": {"slow-line"}, "near,B": {"B", "near-rejoin"}, "small": {"small-1", "small-8", "small-64", "small-512"},
		"slow": {"slow-line", "slow-rejoin", "slow-process", "slow-long-line", "slow-stalls"},
	} {
		var got []string
		selected, err := scenario.Select(list)
		require.NoError(t, err)
		for _, s := range selected {
			got = append(got, s.ID)
		}
		require.Equal(t, want, got, list)
	}
	all, err := scenario.Select("")
	require.NoError(t, err)
	require.Len(t, all, len(scenario.All()))
	_, err = scenario.Select("A,nonsense")
	require.ErrorContains(t, err, "nonsense")
}

// lossy is a cluster that loses an append in every hundred, or delivers one twice.
type lossy struct {
	cfg   system.Config
	extra int
}

func (l *lossy) Send(from, n int) {
	for i := range n {
		arrived := 1
		if (from+i)%100 == 99 {
			arrived += l.extra
		}
		l.cfg.Sink.Appended(0, arrived)
	}
}

func (l *lossy) Ping(peer int) { l.cfg.Sink.Ponged(peer) }
func (l *lossy) Close()        {}

func TestSurplusVoidsARun(t *testing.T) {
	sc, err := scenario.ByID("A")
	require.NoError(t, err)
	for extra, sound := range map[int]bool{0: true, 1: false} {
		sys := system.System{Start: func(cfg system.Config) (system.Cluster, error) { return &lossy{cfg, extra}, nil }}
		_, err := sc.Run(sys, tiny)
		if sound {
			require.NoError(t, err)
		} else {
			require.ErrorContains(t, err, "messages have arrived of")
		}
	}
}
