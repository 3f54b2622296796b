package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/chaos/internal/history"
)

// newTestCluster founds a cluster behind proxies, since these can be had everywhere.
func newTestCluster(t *testing.T, p *wrongProgram, sabotage string, flags ...string) *cluster {
	t.Helper()
	dir := t.TempDir()
	net, err := newProxied(1)
	require.NoError(t, err)
	c, err := newCluster(dir, p.with(t, dir, sabotage), p == wrongShards, net, nil, 1, flags...)
	require.NoError(t, err)
	t.Cleanup(func() {
		if err := c.close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			for _, m := range c.members {
				t.Logf("log of member %s:\n%s", m.name(), m.said(0))
			}
		}
	})
	return c
}

// TestSabotageIsNoticed runs servers that are wrong in ways that must be found out; and one that is not.
func TestSabotageIsNoticed(t *testing.T) {
	if testing.Short() {
		t.Skip("runs clusters of processes")
	}
	for _, c := range append([]sabotage{{}}, wrongKV.sabotages...) {
		t.Run(c.title(), func(t *testing.T) {
			t.Parallel()
			cl := newTestCluster(t, wrongKV, c.name)
			trial := newTrial(cl, 1, []fault{{"delay", delay}}, io.Discard)
			if c.name != "" { // the right one has the time that it needs
				trial.shrink = 2 * time.Second
			}
			err := trial.run(t.Context(), 4*time.Second)
			if c.want == "" {
				require.NoError(t, err)
				require.Greater(t, trial.report.checked, 20)
				require.Positive(t, trial.report.kept)
				require.Positive(t, trial.report.reread)
				return
			}
			for range 5 { // a busy machine comes to little in four seconds
				if err == nil {
					err = trial.run(t.Context(), 4*time.Second)
				}
			}
			require.ErrorContains(t, err, c.want)
		})
	}
}

// TestSabotageOfShardsIsNoticed is the same for the server with many raft groups.
func TestSabotageOfShardsIsNoticed(t *testing.T) {
	if testing.Short() {
		t.Skip("runs clusters of processes")
	}
	for _, c := range append([]sabotage{{}}, wrongShards.sabotages...) {
		t.Run(c.title(), func(t *testing.T) {
			cl := newTestCluster(t, wrongShards, c.name)
			trial := newTrial(cl, 1, []fault{{"moves", moveReplicas}}, io.Discard)
			trial.settle = untoldTime + 5*time.Second
			if c.name != "" {
				trial.shrink, trial.settle = 2*time.Second, 10*time.Second // before replicas are ended that were told nothing
			}
			err := trial.run(t.Context(), 4*time.Second)
			if c.want == "" {
				require.NoError(t, err)
				require.Greater(t, trial.report.checked, 20)
				require.Positive(t, trial.report.kept)
				require.Positive(t, trial.report.reread)
				require.Positive(t, cl.moved.Load())
				return
			}
			for range 5 {
				if err == nil {
					err = trial.run(t.Context(), 4*time.Second)
				}
			}
			require.ErrorContains(t, err, c.want)
		})
	}
}

// TestRotationToANewAuthority rotates a whole cluster of processes under load: it comes to trust both authorities, then
// gets certificates of the new one, and then does not trust the old one any more. No operation may fail meanwhile.
func TestRotationToANewAuthority(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a cluster of processes")
	}
	// Slow ticks, so that no election on a busy machine fails an operation.
	const recheck = time.Second
	c := newTestCluster(t, wrongKV, "", "-tick", "500ms", "-tls-recheck", recheck.String())
	require.NoError(t, c.settle(t.Context(), time.Minute))
	l := newLoad(c)
	l.patience = time.Minute
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		l.run(ctx, 1, 0)
	}()
	old, err := tls.LoadX509KeyPair(c.certs.certFile(0), c.certs.keyFile(0))
	require.NoError(t, err)
	term := terms(t, c)
	require.NoError(t, c.certs.rotateAuthority(func() { wait(ctx, 3*recheck) }))
	cancel()
	<-ended

	ops := l.log.Take()
	for _, op := range ops {
		require.Contains(t, []history.Outcome{history.Done, history.Differs}, op.Outcome, "%+v", op)
	}
	require.Greater(t, len(ops), 100)
	checked, v := history.Judge(ops, time.Minute)
	require.Nil(t, v)
	require.Equal(t, len(ops), checked)
	require.NoError(t, c.settle(t.Context(), time.Minute))
	require.Equal(t, term, terms(t, c), "nobody had to be elected")

	// Nobody is let in any more with the old certificate, and everybody shows a new one.
	fresh, err := tls.LoadX509KeyPair(c.certs.certFile(0), c.certs.keyFile(0))
	require.NoError(t, err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(c.certs.current.PEM)
	for _, m := range c.members {
		require.NoError(t, handshake(t, m, fresh, pool))
		require.ErrorContains(t, handshake(t, m, old, pool), "certificate")
	}
	t.Logf("%d operations, none failed", len(ops))
}

func terms(t *testing.T, c *cluster) (terms []uint64) {
	t.Helper()
	all, err := c.statuses(t.Context())
	require.NoError(t, err)
	for _, s := range all {
		terms = append(terms, s.Term)
	}
	return terms
}

// handshake connects to a member as another one does.
func handshake(t *testing.T, m *member, cert tls.Certificate, pool *x509.CertPool) error {
	t.Helper()
	u, err := url.Parse(m.peer)
	require.NoError(t, err)
	conn, err := tls.Dial("tcp", u.Host, &tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: pool})
	if err != nil {
		return err
	}
	defer conn.Close()
	// With TLS 1.3 the server's opinion of our certificate comes with what is read first.
	if _, err := io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n"); err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, 1))
	return err
}
