package storage

import "maps"

// Member is one member of the cluster, as all members have agreed it is.
type Member struct {
	ID        uint64 `json:"id"`
	PeerURL   string `json:"peer_url"`             // where the other members reach it
	ClientURL string `json:"client_url,omitempty"` // where clients reach it; empty until it said so
	Learner   bool   `json:"learner,omitempty"`    // receives the log, does not vote
	Joining   uint64 `json:"joining,omitempty"`    // the number that it drew to join; 0: it did not
}

// Membership is a value: who is in the cluster, and who was and must not come
// back. Treat it as immutable; the With methods return changed copies.
type Membership struct {
	Members map[uint64]Member `json:"members"`
	Removed map[uint64]bool   `json:"removed,omitempty"` // ids are used once
}

// With returns the membership with m added or replaced.
func (ms Membership) With(m Member) Membership {
	members := maps.Clone(ms.Members)
	if members == nil {
		members = make(map[uint64]Member)
	}
	members[m.ID] = m
	return Membership{Members: members, Removed: ms.Removed}
}

// Without returns the membership after the member with this id was removed.
func (ms Membership) Without(id uint64) Membership {
	members, removed := maps.Clone(ms.Members), maps.Clone(ms.Removed)
	delete(members, id)
	if removed == nil {
		removed = make(map[uint64]bool)
	}
	removed[id] = true
	return Membership{Members: members, Removed: removed}
}

// Voters is the number of members that vote.
func (ms Membership) Voters() int {
	n := 0
	for _, m := range ms.Members {
		if !m.Learner {
			n++
		}
	}
	return n
}
