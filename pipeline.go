package rafthttp

import "github.com/seed-4d73690b/rafthttp/internal/pipeline"

// This file has what users see of a pipeline: the lane "pipeline" of Status.

// pipelineStatus returns the state of all queues of a pipeline together.
func pipelineStatus(p *pipeline.Pipeline) (st LaneStatus) {
	for _, q := range p.Queues {
		st.add(laneStatus(q))
	}
	return st
}

// fill is the fill level of the lane, from 0 to 1.
func (st *LaneStatus) fill() float64 {
	return max(float64(st.Queued)/float64(st.Capacity), float64(st.QueuedBytes)/float64(st.CapacityBytes))
}

// add merges two lanes of one name into one. It shows the fuller of the two.
func (st *LaneStatus) add(l LaneStatus) {
	st.Name, st.Up = l.Name, st.Up || l.Up
	if st.Capacity == 0 || l.fill() > st.fill() {
		st.Queued, st.QueuedBytes, st.Capacity, st.CapacityBytes, st.FullSince = l.Queued, l.QueuedBytes, l.Capacity, l.CapacityBytes, l.FullSince
	}
	if l.OldestAge > st.OldestAge {
		st.OldestAge, st.OldSince = l.OldestAge, l.OldSince
	}
	st.Messages += l.Messages
	st.Bytes += l.Bytes
	st.Batches += l.Batches
	st.BusyTime += l.BusyTime
	st.Duplicates += l.Duplicates
	st.Dropped += l.Dropped
	st.Drops.add(l.Drops)
	if st.DroppingSince.IsZero() || !l.DroppingSince.IsZero() && l.DroppingSince.Before(st.DroppingSince) {
		st.DroppingSince = l.DroppingSince
	}
	st.Dropping.add(l.Dropping)
}
