package rafthttp

import (
	"errors"
	"net/http"
	"slices"
	"sync/atomic"

	"go.etcd.io/etcd/client/pkg/v3/types"

	"github.com/seed-4d73690b/rafthttp/internal/protocol"
)

// Mux serves several Transports, each a member of another cluster, behind
// one listener: a process that is a member of several raft groups needs only one peer
// port. A request goes to the Transport whose ClusterID it states (PROTOCOL.md, section
// 2). The other members of each cluster, which may be stock members, are not affected.
// Probes of stock members state no cluster: any running Transport answers them. A
// request for a cluster without a Transport is refused with 412, as a single Transport
// refuses it, and with 503 while none runs.
//
// Mount it like Transport.Handler: on RaftPrefix and RaftPrefix + "/". The zero
// value is ready for use. All methods are safe for concurrent use, also while requests
// are served; a Mux must not be copied after first use.
//
// Transports behind a Mux share only the listener: each has its own connections,
// queues and limits. See docs/several-groups.md for the cost.
type Mux struct {
	routes atomic.Pointer[[]route] // in the order of Add; replaced, never modified
}

// route is the destination of the requests of a cluster.
type route struct {
	cluster types.ID
	t       *Transport
	handler http.Handler
}

// Add adds a Transport, before or after its Start. ClusterID must have its final value.
// If another Transport of the Mux has the same one, the error is a *ConfigError and the
// Transport is not added. Requests reach it when Add returns.
func (m *Mux) Add(t *Transport) error {
	if t == nil {
		return errors.New("rafthttp: Mux.Add needs a Transport, not nil")
	}
	added := route{t.ClusterID, t, t.Handler()}
	for {
		old := m.routes.Load()
		all := m.all()
		if i := slices.IndexFunc(all, func(r route) bool { return r.cluster == added.cluster }); i >= 0 {
			return &ConfigError{"ClusterID", added.cluster, "a number that no Transport of the Mux has yet"}
		}
		if all = append(slices.Clip(all), added); m.routes.CompareAndSwap(old, &all) {
			return nil
		}
	}
}

// Remove removes a Transport; one that was not added is ignored. New requests of its
// cluster are refused when Remove returns; requests in progress and streams continue until
// it is stopped. After the last one is removed, all requests are answered 503.
func (m *Mux) Remove(t *Transport) {
	for {
		old := m.routes.Load()
		all := slices.DeleteFunc(slices.Clone(m.all()), func(r route) bool { return r.t == t })
		if old == nil || m.routes.CompareAndSwap(old, &all) {
			return
		}
	}
}

func (m *Mux) all() []route {
	if all := m.routes.Load(); all != nil {
		return *all
	}
	return []route{}
}

// ServeHTTP implements http.Handler.
func (m *Mux) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	all := m.all()
	stated := r.Header.Get(protocol.HeaderClusterID)
	if id, err := types.IDFromString(stated); err == nil {
		if i := slices.IndexFunc(all, func(r route) bool { return r.cluster == id }); i >= 0 {
			all[i].handler.ServeHTTP(w, r)
			return
		}
	}
	switch i := slices.IndexFunc(all, route.runs); {
	case i < 0:
		refuse(w, protocol.ErrNotStarted, protocol.EndpointAll)
	case stated != "" && r.URL.Path == ProbingPrefix: // a Transport answers it without a check
		refuse(w, ErrClusterIDMismatch, protocol.EndpointAll)
	default: // refuses all requests except probes
		all[i].handler.ServeHTTP(w, r)
	}
}

// first returns the first running Transport, or nil.
func (m *Mux) first() *Transport {
	all := m.all()
	if i := slices.IndexFunc(all, route.runs); i >= 0 {
		return all[i].t
	}
	return nil
}

// runs reports whether the transport was started and Stop was not called.
func (r route) runs() bool {
	e := r.t.engine.Load()
	return e != nil && e.ctx.Err() == nil
}
