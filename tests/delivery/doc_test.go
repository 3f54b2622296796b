// Package delivery_test has the tests of how messages get from one Transport to another: queues and their limits, streams,
// POSTs, connections that break, hang or lose packets, and what is lost then.
package delivery_test
