package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/seed-4d73690b/rafthttp"
)

// client talks to members as any client of kv does: over HTTP, without their help. It may be used concurrently.
type client struct{ http *http.Client }

func newClient() *client {
	return &client{&http.Client{Transport: &http.Transport{
		DialContext:         (&net.Dialer{Timeout: time.Second}).DialContext,
		MaxIdleConnsPerHost: 64,
	}}}
}

// answer is what a member said.
type answer struct {
	status int
	body   []byte
	etag   string
	code   string // of an error
	text   string
}

func (a *answer) err() error {
	if a.status < http.StatusBadRequest {
		return nil
	}
	return fmt.Errorf("%d: %s", a.status, a.text)
}

func (c *client) do(ctx context.Context, method, url string, body string, header ...string) (*answer, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	a := &answer{status: resp.StatusCode, etag: resp.Header.Get("ETag")}
	if a.body, err = io.ReadAll(resp.Body); err != nil {
		return nil, err
	}
	if a.status >= http.StatusBadRequest {
		var e struct{ Code, Error, ETag string }
		if err := json.Unmarshal(a.body, &e); err != nil {
			return nil, fmt.Errorf("answer %d: %w", a.status, err)
		}
		a.code, a.text, a.etag = e.Code, e.Error, e.ETag
	}
	return a, nil
}

// ask gets JSON from a member, which has a second.
func (c *client) ask(ctx context.Context, url string, into any) error {
	return c.askWithin(ctx, time.Second, url, into)
}

// askWithin is ask for what takes longer.
func (c *client) askWithin(ctx context.Context, d time.Duration, url string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	a, err := c.do(ctx, http.MethodGet, url, "")
	if err == nil {
		err = a.err()
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(a.body, into)
}

// notSent says whether a request that failed has not reached the member at all.
func notSent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// status is what a member says of itself, as far as we care.
type status struct {
	ID, Leader, Term, Applied uint64
	Members                   []statusMember
	Transport                 rafthttp.Status
}

type statusMember struct {
	ID      uint64
	Learner bool
}

// digest is what a member has.
type digest struct {
	Applied uint64
	Hash    string
	Keys    int
}

// etagOf is how a member names a value.
func etagOf(value string) string {
	sum := sha256.Sum256([]byte(value))
	return `"` + hex.EncodeToString(sum[:]) + `"`
}
