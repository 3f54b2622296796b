package demo

import (
	"bytes"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestLedgerFindsLongestGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l ledger
		l.watch()
		for _, pause := range []time.Duration{time.Second, 3 * time.Second, 2 * time.Second} {
			time.Sleep(pause)
			l.add(record{})
		}
		require.Equal(t, 3*time.Second, l.longestGap())
		require.Len(t, l.all(), 3)
		l.watch()
		time.Sleep(time.Second)
		l.add(record{})
		require.Equal(t, time.Second, l.longestGap())
	})
}

func TestRecordValue(t *testing.T) {
	a := record{"key/1", 100}
	require.Len(t, a.value(), 100)
	require.Equal(t, a.value(), a.value())
	require.NotEqual(t, a.value(), record{"key/2", 100}.value())
}

func TestBarWithoutTerminal(t *testing.T) {
	var out bytes.Buffer
	b := startBar(&out, "a step")
	b.set(1, 2)
	require.Contains(t, b.line(), "█████░░░░░  50%")
	require.LessOrEqual(t, len([]rune(b.line())), 80)
	b.say("1234.5 MiB/s")
	require.Regexp(t, `a step +1234\.5 MiB/s +0\.0s  █`, b.line())
	require.LessOrEqual(t, len([]rune(b.line())), 80)
	b.finish("done", nil)
	startBar(&out, "another").finish("", errors.New("it broke"))
	require.Regexp(t, `^ok   a step +0\.0s  done\nFAIL another +0\.0s  it broke\n$`, out.String())
}

func TestCount(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		require.Equal(t, want, count(n))
	}
}

func TestFreePorts(t *testing.T) {
	ports, err := freePorts(8)
	require.NoError(t, err)
	seen := make(map[int]bool)
	for _, p := range ports {
		seen[p] = true
	}
	require.Len(t, seen, 8)
}
