package promise_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/chaos/promise"
)

// TestSabotageIsNoticed: each judge notices members that are wrong in what it looks at.
func TestSabotageIsNoticed(t *testing.T) {
	p := promise.Plan{
		Seed: 1, Length: 35 * time.Second, Members: make([]promise.Options, 2), Load: promise.Load{Appends: 10, Proposals: 5, Size: 100},
		Groups: make([]promise.Group, 1),
		Events: []promise.Event{
			{At: 2 * time.Second, Do: promise.Snapshot, A: 1, B: 2, N: 100_000, How: "seeks"},
			{At: 20 * time.Second, Do: promise.Cut, A: 1, B: 2, For: 12 * time.Second},
		},
	}
	requireKept(t, p)
	for _, judge := range promise.Judges() {
		t.Run(judge, func(t *testing.T) {
			_, v := run(t, p, promise.Config{}.WithSabotage(judge))
			require.NotNil(t, v, "nobody has noticed it")
			require.Equal(t, judge, v.Judge, v.Error())
		})
	}
}

// TestNamesAreApart: a violation names one judge, or one scene.
func TestNamesAreApart(t *testing.T) {
	seen := map[string]bool{}
	for _, name := range slices.Concat(promise.Judges(), promise.Scenes()) {
		require.False(t, seen[name], name)
		seen[name] = true
	}
}

// TestGuarantees: each sentence of the guarantees has a judge, or a reason why there is none.
func TestGuarantees(t *testing.T) {
	known := promise.Guarantees()
	var sentences []string
	for _, g := range known {
		sentences = append(sentences, g.Sentence)
		require.Equal(t, len(g.Judges) == 0, g.Exempt != "", "either judges or a reason: %s", g.Sentence)
		require.Subset(t, promise.Judges(), g.Judges, g.Sentence)
	}
	promised := slices.Concat(sentencesOf(t, "../../doc.go", "Guarantees"), sentencesOf(t, "../../doc.go", "Concurrency"))
	require.Equal(t, promised, sentences,
		"a sentence of doc.go has changed: who looks whether it is kept? See guarantees.go")
}

// TestNobodyJudgesMore: no judge looks at what nobody promises, in the guarantees or in another comment.
func TestNobodyJudgesMore(t *testing.T) {
	var judges []string
	for _, g := range promise.Guarantees() {
		judges = append(judges, g.Judges...)
	}
	for _, g := range promise.GroupGuarantees() {
		judges = append(judges, g.Judges...)
	}
	for file, all := range promise.Elsewhere() {
		src, err := os.ReadFile("../../" + file)
		require.NoError(t, err)
		text := strings.Join(strings.Fields(strings.ReplaceAll(string(src), "//", "")), " ")
		for _, g := range all {
			require.Contains(t, text, g.Sentence, "%s has changed: who looks whether it is kept? See guarantees.go", file)
			judges = append(judges, g.Judges...)
		}
	}
	require.Subset(t, judges, promise.Judges())
}

// sentencesOf returns the sentences of a section of a package's comment.
func sentencesOf(t *testing.T, file, section string) (sentences []string) {
	t.Helper()
	src, err := os.ReadFile(file)
	require.NoError(t, err)
	_, text, found := strings.Cut(string(src), "// # "+section+"\n")
	require.True(t, found)
	text, _, found = strings.Cut(text, "// # ")
	require.True(t, found)
	text = strings.Join(strings.Fields(strings.ReplaceAll(text, "\n//", "\n")), " ")
	text = strings.TrimPrefix(text, "// ")
	for _, s := range regexp.MustCompile(`[^.]*?(?:[a-z)\]]|"[^"]*")?\.(?: |$)|.+?\. `).FindAllString(text, -1) {
		sentences = append(sentences, strings.TrimSpace(s))
	}
	return sentences
}
