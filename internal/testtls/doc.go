// Package testtls runs members with TLS for tests: authorities, the files of members, which change while they run, and members
// that use them. Nothing but tests may import it.
package testtls
