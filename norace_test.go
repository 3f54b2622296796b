//go:build !race

package rafthttp_test

const raceEnabled = false
