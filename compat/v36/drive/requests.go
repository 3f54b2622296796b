package drive

import (
	"maps"
	"net/http"
	"path"
	"strings"
	"sync"
)

// Requests counts the requests that a member has received, by method and path, for example "POST /raft" or
// "GET /raft/stream/message" (without the id of who asks). The zero value is ready; it may be used concurrently.
type Requests struct {
	mu sync.Mutex
	n  map[string]int
}

// Counting returns next, with every request counted before next sees it.
func (c *Requests) Counting(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p := r.URL.Path
		if strings.HasPrefix(p, "/raft/stream/") {
			p = path.Dir(p)
		}
		c.mu.Lock()
		if c.n == nil {
			c.n = make(map[string]int)
		}
		c.n[r.Method+" "+p]++
		c.mu.Unlock()
		next.ServeHTTP(w, r)
	})
}

// Counts returns a copy of the counts so far.
func (c *Requests) Counts() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.n)
}
