// Package followers_test has the tests of replication to followers that are slow, congested or behind, by clusters of raft over
// whole Transports, and of what is done for them: the window of appends, advice on inflight limits, priorities.
package followers_test
