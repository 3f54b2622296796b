package member

import (
	"slices"
	"sync/atomic"

	"go.etcd.io/etcd/client/pkg/v3/types"
)

// Voters are the members that vote, as the application has said. They are safe for concurrent use; the zero value is nobody.
type Voters struct {
	now atomic.Pointer[[2][]types.ID]
}

// Set replaces them, and those of the outgoing configuration. It copies both.
func (v *Voters) Set(voters, outgoing []uint64) {
	v.now.Store(&[2][]types.ID{idsOf(voters), idsOf(outgoing)})
}

// Get returns copies of both.
func (v *Voters) Get() (voters, outgoing []types.ID) {
	if now := v.now.Load(); now != nil {
		return slices.Clone(now[0]), slices.Clone(now[1])
	}
	return nil, nil
}

func idsOf(from []uint64) (ids []types.ID) {
	for _, id := range from {
		ids = append(ids, types.ID(id))
	}
	return ids
}
