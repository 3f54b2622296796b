package security_test

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/seed-4d73690b/rafthttp"
	"github.com/seed-4d73690b/rafthttp/internal/testmember"
	"github.com/seed-4d73690b/rafthttp/internal/testtls"
)

const recheck = 10 * time.Second // the default

// load has every member send to every other one until stop is called, which
// returns how many messages each got from each.
func load(t *testing.T, all []*testmember.Member, every time.Duration, size int) (stop func() uint64) {
	t.Helper()
	done, ended := make(chan struct{}), make(chan uint64, 1)
	end := sync.OnceFunc(func() { close(done) })
	t.Cleanup(end)
	go func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for n := uint64(0); ; n++ {
			for _, from := range all {
				for _, to := range all {
					if from != to {
						from.Send([]*raftpb.Message{testmember.MsgApp(to.ID, from.ID, n, make([]byte, size)), testmember.Heartbeat(to.ID, from.ID, n)})
					}
				}
			}
			select {
			case <-tick.C:
			case <-done:
				ended <- n + 1
				return
			}
		}
	}()
	return func() uint64 {
		end()
		return <-ended
	}
}

// probe asks a server for the time, as member 2 and with these files.
func probe(t *testing.T, s *testtls.Network, info transport.TLSInfo, url string) error {
	t.Helper()
	cfg, err := info.ClientConfig()
	require.NoError(t, err)
	tr := &http.Transport{TLSClientConfig: cfg, DialContext: s.Net.Host(testmember.HostOf(2)).DialContext, DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: tr}).Get(url + rafthttp.ProbingPrefix)
	if err == nil {
		resp.Body.Close()
	}
	return err
}
