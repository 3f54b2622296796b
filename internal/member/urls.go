package member

import (
	"fmt"

	"go.etcd.io/etcd/client/pkg/v3/types"
)

// MustMember returns the URLs of a member that a method was given. It panics for an invalid id or URL.
func MustMember(method string, id types.ID, urls []string) types.URLs {
	if id == 0 {
		panic(fmt.Sprintf("rafthttp: %s(0, %q): no member has the id 0", method, urls))
	}
	return MustURLs(method, id, urls)
}

// MustURLs is MustMember for an id that may be 0.
func MustURLs(method string, id types.ID, urls []string) types.URLs {
	us, err := types.NewURLs(urls)
	if err != nil {
		panic(fmt.Sprintf("rafthttp: %s(%s, %q): %v", method, id, urls, err))
	}
	return us
}
