// Package testmember runs members for tests: Transports with servers, on loopback or in a network in memory, the other ends of
// their streams and requests operated by hand, and the callbacks, stores and connections that tests give them. Nothing but
// tests may import it.
package testmember
