package rafthttp_test

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp"
)

func TestURLPicker(t *testing.T) {
	urls := []string{"http://a:1", "http://b:1", "http://c:1"}
	p := rafthttp.NewURLPicker(urls...)
	for round := range 7 {
		u := p.Pick()
		require.Equal(t, urls[round%3], u.String())
		require.Equal(t, u, p.Pick(), "stays until it fails")
		p.Unreachable(u)
		p.Unreachable(u) // a second lane says the same of it
	}
	require.Equal(t, urls, p.List())
	require.True(t, p.Same("http://c:1", "http://a:1", "http://b:1"), "the order says nothing")
	require.False(t, p.Same("http://a:1", "http://b:1"))

	old := p.Pick()
	p.Update("http://d:1", "http://e:1")
	require.Equal(t, "d:1", p.Pick().Host)
	p.Unreachable(old)
	require.Equal(t, "d:1", p.Pick().Host, "it was not meant")

	p.Update("http://one:1")
	p.Unreachable(p.Pick())
	require.Equal(t, "one:1", p.Pick().Host)
}

func TestURLPickerIsSafeForConcurrentUse(t *testing.T) {
	p := rafthttp.NewURLPicker("http://a:1", "http://b:1", "http://c:1")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 500 {
				p.Unreachable(p.Pick())
				p.Update("http://d:1", "http://e:1")
			}
		})
	}
	wg.Wait()
	require.Contains(t, []string{"d:1", "e:1"}, p.Pick().Host)
}
