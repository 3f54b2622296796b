package statuspage

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Fact is a name with a value, such as "Leader" and "2". Both are shown as plain text.
type Fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// application is the result of Options.Facts, or the reason why there is none.
type application struct {
	Facts []Fact `json:"facts"`
	Error string `json:"error,omitempty"`
}

// factsWait is how long a request waits for Options.Facts.
const factsWait = time.Second

// factsCaller calls Options.Facts, at most once at a time. It is safe for concurrent use.
type factsCaller struct {
	call func(context.Context) []Fact // nil: none

	mu      sync.Mutex
	current *factsCall // nil: no call in progress
}

// factsCall is one call. The application is set when done is closed.
type factsCall struct {
	began time.Time
	done  chan struct{}
	application
}

// get returns the facts, or why there are none; nil if Options.Facts is nil.
func (f *factsCaller) get() *application {
	if f.call == nil {
		return nil
	}
	c := f.join()
	timer := time.NewTimer(time.Until(c.began.Add(factsWait)))
	defer timer.Stop()
	select {
	case <-c.done:
		return &c.application
	case <-timer.C:
		return &application{Facts: []Fact{}, Error: "Facts has not returned for " + duration(time.Since(c.began))}
	}
}

// join returns the call in progress, or starts one.
func (f *factsCaller) join() *factsCall {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.current == nil {
		f.current = &factsCall{began: time.Now(), done: make(chan struct{})}
		go f.run(f.current)
	}
	return f.current
}

func (f *factsCaller) run(c *factsCall) {
	ctx, cancel := context.WithTimeout(context.Background(), factsWait)
	defer cancel()
	c.application = application{Facts: []Fact{}, Error: "Facts did not return"} // if it ends its goroutine
	defer func() {
		if v := recover(); v != nil {
			c.Error = fmt.Sprintf("Facts panicked: %v", v)
		}
		f.mu.Lock()
		f.current = nil
		f.mu.Unlock()
		close(c.done)
	}()
	facts := f.call(ctx)
	c.application = application{Facts: append([]Fact{}, facts...)}
}
