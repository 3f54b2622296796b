package system

import "sync"

// fanout has a goroutine for each peer that sends what all peers are sent, for systems whose sending blocks: a leader
// does not let one follower wait for another.
type fanout struct {
	peers []chan span
	wg    sync.WaitGroup
}

// span is n appends of the load from number from on.
type span struct{ from, n int }

// newFanout calls send for each append and peer, in order for each peer. Its first error ends the goroutine, which then
// only drains.
func newFanout(peers int, send func(peer, number int) error, failed func(error)) *fanout {
	f := &fanout{}
	for peer := range peers {
		spans := make(chan span, 4)
		f.peers = append(f.peers, spans)
		f.wg.Go(func() {
			broken := false
			for s := range spans {
				for i := 0; i < s.n && !broken; i++ {
					if err := send(peer, s.from+i); err != nil {
						broken = true
						failed(err)
					}
				}
			}
		})
	}
	return f
}

func (f *fanout) send(from, n int) {
	for _, c := range f.peers {
		c <- span{from, n}
	}
}

func (f *fanout) close() {
	for _, c := range f.peers {
		close(c)
	}
	f.wg.Wait()
}
