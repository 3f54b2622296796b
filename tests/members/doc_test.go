// Package members_test has the tests of the life of a Transport and of its peers: Start and Stop, changes of membership, whether
// a peer is active, probes, Status, and the callbacks and the log by which an application learns of all that.
package members_test
