package stream

import "time"

// flapWindow is the time whose reconnects State counts.
const flapWindow = 2 * time.Minute

// reconnects remembers when a stream reconnected, and since when it is down. The zero value is ready. Its owner has a lock.
type reconnects struct {
	at        [16]time.Time // the last ones, in a ring
	next      int
	connected bool      // there was a connection
	down      time.Time // when the last one ended; zero while there is one
}

func (r *reconnects) connect(now time.Time) {
	r.down = time.Time{}
	if r.connected {
		r.at[r.next] = now
		r.next = (r.next + 1) % len(r.at)
	}
	r.connected = true
}

func (r *reconnects) disconnect() { r.down = time.Now() }

// addTo adds what is known to a state.
func (r *reconnects) addTo(st *State, now time.Time) {
	st.DownSince = r.down
	for _, at := range r.at {
		if at.IsZero() || now.Sub(at) >= flapWindow {
			continue
		}
		if st.Reconnects++; st.Reconnects == 1 || at.Before(st.ReconnectsSince) {
			st.ReconnectsSince = at
		}
	}
}
