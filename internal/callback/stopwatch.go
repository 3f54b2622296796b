package callback

import (
	"time"

	"go.uber.org/zap"
)

// After stopPatience a StopWatch writes a line, then after twice as long, and so on up to
// maxStopPatience.
const (
	stopPatience    = 5 * time.Second
	maxStopPatience = time.Minute
)

// StopWatch logs the reason if a Stop takes long.
type StopWatch struct{ quit, done chan struct{} }

// WatchStop starts to watch a Stop. running names the callbacks that have not returned. The
// caller ends the watch with End.
func WatchStop(log *zap.Logger, running func() []string) *StopWatch {
	w := &StopWatch{make(chan struct{}), make(chan struct{})}
	go w.run(log, running) // joined by End
	return w
}

// End ends the watch. It waits for a line that is being logged.
func (w *StopWatch) End() {
	close(w.quit)
	<-w.done
}

func (w *StopWatch) run(log *zap.Logger, running func() []string) {
	defer close(w.done)
	began, patience := time.Now(), stopPatience
	for {
		timer := time.NewTimer(patience)
		select {
		case <-timer.C:
		case <-w.quit:
			timer.Stop()
			return
		}
		log.Warn("Stop still waits for callbacks", zap.Duration("after", time.Since(began)),
			zap.Strings("callbacks", running()), zap.String("goroutines", goroutinesInCallbacks()))
		patience = min(2*patience, maxStopPatience)
	}
}
