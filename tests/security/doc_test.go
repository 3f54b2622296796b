// Package security_test has the tests of what comes in from outside, to whole Transports: requests, handshakes, certificates,
// identities, listeners, the Mux, and input that is hostile.
package security_test
