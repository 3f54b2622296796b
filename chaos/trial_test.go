package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-4d73690b/rafthttp/chaos/internal/history"
)

var source = filepath.Join("..", "examples", "kv")

const shards = "shards" // the folder of the source of shards

// change is what is done to a file of kv's source before it is built: some text in the place of another.
type change struct{ file, old, new string }

// buildWrong builds the program in a folder with changes, none for a right one.
func buildWrong(t *testing.T, dir, source string, changes []change) (kv string) {
	t.Helper()
	replace, texts := make(map[string]string), make(map[string]string)
	for _, c := range changes {
		path, err := filepath.Abs(filepath.Join(source, c.file))
		require.NoError(t, err)
		if texts[path] == "" {
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			texts[path] = string(text)
		}
		require.Equal(t, 1, strings.Count(texts[path], c.old), "%s in %s", c.old, c.file)
		texts[path] = strings.Replace(texts[path], c.old, c.new, 1)
		replace[path] = filepath.Join(dir, filepath.Base(path)+".txt")
		require.NoError(t, os.WriteFile(replace[path], []byte(texts[path]), 0o600))
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	require.NoError(t, err)
	file := filepath.Join(dir, "overlay.json")
	require.NoError(t, os.WriteFile(file, overlay, 0o600))
	kv = filepath.Join(dir, program)
	cmd := exec.Command("go", "build", "-buildvcs=false", "-overlay", file, "-o", kv, ".")
	cmd.Dir = source
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	return kv
}

// newTestCluster founds a cluster behind proxies, since these can be had everywhere.
func newTestCluster(t *testing.T, source string, changes []change, flags ...string) *cluster {
	t.Helper()
	dir := t.TempDir()
	net, err := newProxied(1)
	require.NoError(t, err)
	c, err := newCluster(dir, buildWrong(t, dir, source, changes), source == shards, net, nil, 1, flags...)
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
	put := "\tcase opPut:\n"
	for name, c := range map[string]struct {
		want    string
		changes []change
	}{
		"right": {"", nil},
		"stale reads": {"not linearizable", []change{
			{"internal/server/api.go", "if !stale {", "if !stale && false {"},
		}},
		"writes that are acknowledged when they are proposed": {"not linearizable", []change{
			{"internal/server/propose.go", "o, err := s.await(ctx, c.request, func(ctx context.Context) error { return s.node.Propose(ctx, c.encode()) })",
				"o, err := outcome{}, s.proposalError(s.node.Propose(ctx, c.encode()))"},
		}},
		"a lost write now and then": {"key", []change{
			{"internal/server/apply.go", put, put + "if e.GetIndex()%8 == 0 { return o, nil }\n"},
		}},
		"a member that applies something else": {errDiffer.Error(), []change{
			{"internal/server/apply.go", "import (\n", "import (\n\"os\"\n"},
			{"internal/server/apply.go", put, put + "if e.GetIndex() > 20 { _ = batch.Put([]byte(fmt.Sprint(os.Getpid())), nil) }\n"},
		}},
		"a member that ends": {"has ended by itself", []change{
			{"internal/server/apply.go", put, put + "if e.GetIndex() > 20 { return o, errBadCommand }\n"},
		}},
		"a member that believes to be removed": {"and it was not", []change{
			{"internal/server/transport.go", "(ctx context.Context, m *raftpb.Message) error {\n",
				"(ctx context.Context, m *raftpb.Message) error {\nif r.cfg.ID == 5 && m.GetIndex() > 20 { r.end(ErrRemoved) }\n"},
		}},
		"a panic": {"panic: ", []change{
			{"internal/server/apply.go", put, put + "if e.GetIndex() > 20 { panic(\"no\") }\n"},
		}},
		"a goroutine for each write": {"goroutines", []change{
			{"internal/server/propose.go", "\tc.request = s.nextID.Add(1)\n", "\tc.request = s.nextID.Add(1)\n\tfor range 10 { go func() { select {} }() }\n"},
		}},
		"a descriptor for each write": {"descriptors", []change{
			{"internal/server/propose.go", "import (\n", "import (\n\"syscall\"\n"},
			{"internal/server/propose.go", "\tc.request = s.nextID.Add(1)\n", "\tc.request = s.nextID.Add(1)\n\tfor range 10 { _, _ = syscall.Dup(1) }\n"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cl := newTestCluster(t, source, c.changes)
			trial := newTrial(cl, 1, []fault{{"delay", delay}}, io.Discard)
			trial.shrink = 2 * time.Second
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
	for name, c := range map[string]struct {
		want    string
		changes []change
	}{
		"right": {"", nil},
		"a replica that applies something else": {errDiffer.Error(), []change{
			{"state.go", "s.Index = e.GetIndex()\n", "if s.Index = e.GetIndex(); s.Index > 3 && r.node.cfg.id == 2 { s.Hash[0]++ }\n"},
		}},
		"a removed replica that stays": {"was removed, and is there", []change{
			{"replica.go", "\t\tr.node.part(r, err)\n", "\t\t_ = err\n"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			cl := newTestCluster(t, shards, c.changes)
			trial := newTrial(cl, 1, []fault{{"moves", moveReplicas}}, io.Discard)
			trial.shrink, trial.settle = 2*time.Second, untoldTime+5*time.Second
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
	c := newTestCluster(t, source, nil, "-tick", "500ms", "-tls-recheck", recheck.String())
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
