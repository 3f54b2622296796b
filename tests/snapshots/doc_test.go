// Package snapshots_test has the tests of snapshot transfers between whole Transports: what a transfer consists of, and what
// becomes of one when connections, readers, stores, receivers or disks fail, while fault points are active as well.
package snapshots_test
