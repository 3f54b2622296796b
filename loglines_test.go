package rafthttp_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/memnet"
)

// promisedLimits returns how many lines with one message docs/operating.md promises at most, in a row and a minute.
func promisedLimits(t *testing.T) (ofPeer, ofOthers int) {
	t.Helper()
	text, err := os.ReadFile("docs/operating.md")
	require.NoError(t, err)
	m := regexp.MustCompile(`no message\s+is logged more than (\d+) times in a row for one peer, and after that (\d+) times a minute; for all requests of those that are no peers together it is (\d+) times`).FindSubmatch(text)
	require.NotNil(t, m, "docs/operating.md says no limits")
	require.Equal(t, m[1], m[2])
	ofPeer, err = strconv.Atoi(string(m[1]))
	require.NoError(t, err)
	ofOthers, err = strconv.Atoi(string(m[3]))
	require.NoError(t, err)
	return ofPeer, ofOthers
}

// inspectSource calls f for each node of the files of this package and those below it that are not for tests, and for
// each build.
func inspectSource(t *testing.T, f func(file string, n ast.Node)) {
	t.Helper()
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	below, err := filepath.Glob("internal/*/*.go")
	require.NoError(t, err)
	require.NotEmpty(t, below)
	files = append(files, below...)
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") || strings.HasPrefix(name, "internal/test") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		require.NoError(t, err)
		ast.Inspect(file, func(n ast.Node) bool {
			f(name, n)
			return true
		})
	}
}

var logMethods = map[string]bool{"Info": true, "Warn": true, "Error": true, "DPanic": true, "Panic": true, "Fatal": true, "Log": true, "Check": true}

// TestNothingIsLoggedAroundTheLimits: the loggers of the application are in the hands of those only that make limited ones of
// them, of what logs once before the process ends or when it is called before Start (LimitInflight), and of what has no
// Transport: listeners and round trippers, which have limits of their own.
func TestNothingIsLoggedAroundTheLimits(t *testing.T) {
	allowed := map[string][]string{
		"Logger":    {"config.go", "internal/conn/files.go", "internal/conn/round_tripper.go", "internal/listener/listener.go", "ready.go"}, // of a Transport or a TLSInfo
		"DirectLog": {"config.go"},                                                                                                          // which is the Transport's
		"directLog": {"internal/callback/registry.go"},                                                                                      // the same
	}
	calls := 0
	inspectSource(t, func(file string, n ast.Node) {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && x.Name == "zap" {
				return // the type
			}
			if files, ok := allowed[n.Sel.Name]; ok {
				require.Contains(t, files, file, n.Sel.Name)
			}
		case *ast.CallExpr:
			method, ok := n.Fun.(*ast.SelectorExpr)
			if !ok || !logMethods[method.Sel.Name] || len(n.Args) == 0 {
				return
			}
			if x, ok := method.X.(*ast.Ident); ok && (x.Name == "zap" || x.Name == "http") {
				return // a field; an answer
			}
			if text, ok := n.Args[0].(*ast.BasicLit); ok && text.Kind == token.STRING {
				calls++
				return
			}
			require.Equal(t, "internal/callback/asynclog.go", file, "a message that is not a literal has no limit")
		}
	})
	require.Greater(t, calls, 20)
}

// TestEveryMessageIsLimited logs each message of the source a thousand times in ten minutes, by the loggers that all lines go by,
// and reads how many come out.
func TestEveryMessageIsLimited(t *testing.T) {
	limitOfPeer, limitOfOthers := promisedLimits(t)
	messages := map[string]bool{}
	inspectSource(t, func(_ string, n ast.Node) {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) == 0 {
			return
		}
		method, ok := call.Fun.(*ast.SelectorExpr)
		text, isText := call.Args[0].(*ast.BasicLit)
		if !ok || !logMethods[method.Sel.Name] || !isText {
			return
		}
		message, err := strconv.Unquote(text.Value)
		require.NoError(t, err)
		messages[message] = true
	})
	require.Greater(t, len(messages), 20)
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		logs, lines := testmember.Logged(zap.NewAtomicLevelAt(zap.InfoLevel))
		a := testmember.StartSimulated(t, n, 1, logs)
		n.Link("m1", "m2").Cut()
		a.AddPeer(2, testmember.SilentHost(n, 2))
		time.Sleep(time.Minute)
		lines.TakeAll()
		ofPeer, ofOthers := a.Loggers(2)
		for range 1000 {
			for message := range messages {
				ofPeer.With(zap.Int("some", 1)).Warn(message)
				ofOthers.With(zap.Int("some", 1)).Warn(message)
			}
			time.Sleep(600 * time.Millisecond)
			synctest.Wait()
		}
		time.Sleep(time.Minute)
		for message := range messages {
			ofPeer.Warn(message)
			ofOthers.Warn(message)
		}
		synctest.Wait()
		got := map[string][2]int{} // lines of the peer, of others
		left := map[string][2]uint64{}
		for _, e := range lines.FilterField(zap.Int("some", 1)).All() {
			count(got, left, e)
		}
		last := lines.Filter(func(e observer.LoggedEntry) bool { return e.ContextMap()["some"] == nil && messages[e.Message] })
		for _, e := range last.All() {
			count(map[string][2]int{}, left, e)
		}
		for message := range messages {
			require.InDelta(t, limitOfPeer+10*limitOfPeer, got[message][0], 2, message)
			require.InDelta(t, limitOfOthers+10*limitOfOthers, got[message][1], 2, message)
			require.EqualValues(t, 1000, uint64(got[message][0])+left[message][0], "%s: suppressed", message)
			require.EqualValues(t, 1000, uint64(got[message][1])+left[message][1], "%s: suppressed", message)
		}
	})
}

func count(lines map[string][2]int, suppressed map[string][2]uint64, e observer.LoggedEntry) {
	i := 0
	if e.ContextMap()["remote-peer-id"] == nil {
		i = 1
	}
	n, s := lines[e.Message], suppressed[e.Message]
	n[i]++
	if left, ok := e.ContextMap()["suppressed"].(uint64); ok {
		s[i] += left
	}
	lines[e.Message], suppressed[e.Message] = n, s
}

// TestBlockedLogHoldsLittle: a log that stands still costs the memory of a few lines, which come when it goes on, and the next
// says how many did not.
func TestBlockedLogHoldsLittle(t *testing.T) {
	testmember.Simulate(t, func(t *testing.T, n *memnet.Network) {
		at := testmember.NewBarrier()
		core, lines := observer.New(zap.InfoLevel)
		a := testmember.StartSimulated(t, n, 1, func(tr *rafthttp.Transport) {
			tr.Logger = zap.New(zapcore.NewTee(testmember.BlockingCore{LevelEnabler: zap.InfoLevel, At: at}, core))
		})
		at.Close()
		a.AddPeer(2, testmember.SilentHost(n, 2))
		log, _ := a.Loggers(2)
		for range 200 {
			for kind := range 100 {
				log.Warn(strconv.Itoa(kind))
			}
			time.Sleep(time.Minute)
		}
		at.Open()
		synctest.Wait()
		require.LessOrEqual(t, lines.Len(), 65)
		written := lines.FilterMessage("99").Len()
		log.Warn("99")
		synctest.Wait()
		all := lines.FilterMessage("99").All()
		require.EqualValues(t, 200-written, all[len(all)-1].ContextMap()["suppressed"])
	})
}
