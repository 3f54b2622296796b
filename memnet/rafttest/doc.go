// Package rafttest runs the members of a raft cluster, each with a real rafthttp.Transport and HTTP server, on a
// network in memory (package memnet), for tests of servers that use rafthttp: partitions, crashes, slow links, lost and
// duplicated messages, and minutes of elections in milliseconds of real time.
//
//	synctest.Test(t, func(t *testing.T) { // package testing/synctest: time passes when all wait
//		c := rafttest.New(t, rafttest.Config{Members: 5})
//		for id := uint64(1); id <= 5; id++ {
//			s := newServer(id)                              // yours, a rafthttp.Raft
//			go s.run(t.Context(), c.Start(id, s).Transport) // it sends by this transport
//		}
//		c.Partition([]uint64{1, 2}, []uint64{3, 4, 5})
//		time.Sleep(time.Minute)
//		… // 3, 4 or 5 leads now, and nobody else
//	})
//
// The test file example_test.go has the complete code. Members are served by rafthttp.NewServer, unless Config.Server
// says otherwise, and use mutual TLS if Config.TLS is set.
//
// The members are stopped at the end of the test, but the test must stop the application behind a Raft: a server has to
// stop its raft.Node and its loops when t.Context ends, or in a Cleanup that is registered after New. Remaining
// goroutines fail the test; synctest calls it a deadlock.
//
// # Two layers of faults
//
// The network below the transports ([Cluster.Network]) carries connections: it has links that are slow, narrow or cut,
// and hosts that crash. TCP never loses or reorders single bytes, so single messages cannot be lost there. Use [Rule]
// for that: it acts between a transport and its Raft, on messages that have arrived, by sender, receiver, type or a
// function of the test. [Faults] alone does that for transports over any network.
//
// # With the race detector
//
// Up to Go 1.26 at least, a bubble of testing/synctest in which many timers are due at once may crash the race detector itself
// (SIGSEGV, or "ThreadSanitizer: CHECK failed": golang.org/issue/78156). It does not with one processor: run such tests with
// go test -race -cpu 1, or call runtime.GOMAXPROCS(1) before them.
//
// # Seeds
//
// Random values come from a seed. When a test fails, the seed and the events are logged, and so are goroutines
// that outlive it.
package rafttest
