package metrics_test

import (
	"os"
	"regexp"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/metrics"
)

// TestDocs: docs/metrics.md has every metric, and no other.
func TestDocs(t *testing.T) {
	page, err := os.ReadFile("../docs/metrics.md")
	require.NoError(t, err)
	documented := map[string]bool{}
	for _, m := range regexp.MustCompile("`((?:etcd_network|rafthttp)_\\w+)`").FindAllStringSubmatch(string(page), -1) {
		require.False(t, documented[m[1]], "%s twice", m[1])
		documented[m[1]] = true
	}
	ch := make(chan *prometheus.Desc, 1000)
	metrics.New(&rafthttp.Transport{}, &metrics.Options{SlowProcess: time.Second}).Describe(ch)
	close(ch)
	described := map[string]bool{}
	for d := range ch {
		described[regexp.MustCompile(`fqName: "(\w+)"`).FindStringSubmatch(d.String())[1]] = true
	}
	require.Equal(t, described, documented)
}
