// Command raft35 is one member of a replicated list of lines, on raft 3.5 and the
// transport, write-ahead log and Snapshotter of etcd 3.5: a program as it was
// before docs/migrating-from-raft-3.5.md was followed. What became of it is in
// the folder raft37.
//
// It proposes each line that it reads, and prints each line of the list with its
// number. "/add ID URL" adds a member instead, and "/campaign" makes this one the
// leader.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"strconv"
	"strings"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/raft/v3/raftpb"
)

type config struct {
	id      uint64
	members map[uint64]string // peer URLs
	found   bool              // a cluster of these members
	join    bool              // a cluster that is there
	dir     string
	tls     transport.TLSInfo
}

func main() {
	cfg := config{members: map[uint64]string{}, tls: transport.TLSInfo{ClientCertAuth: true}}
	flag.Uint64Var(&cfg.id, "id", 1, "`ID` of this member")
	flag.Func("member", "`ID=URL` of a member; once for each", func(s string) error {
		id, url, ok := strings.Cut(s, "=")
		n, err := strconv.ParseUint(id, 10, 64)
		if !ok || err != nil {
			return fmt.Errorf("want ID=URL, have %q", s)
		}
		cfg.members[n] = url
		return nil
	})
	flag.BoolVar(&cfg.found, "new", false, "found a cluster: at the first start of each member, and never again")
	flag.BoolVar(&cfg.join, "join", false, "join a cluster that has added this member")
	flag.StringVar(&cfg.dir, "dir", "data", "`folder` of the data")
	flag.StringVar(&cfg.tls.TrustedCAFile, "ca", "ca.crt", "`file` of the members' authority")
	flag.StringVar(&cfg.tls.CertFile, "cert", "member.crt", "`file` of the certificate")
	flag.StringVar(&cfg.tls.KeyFile, "key", "member.key", "`file` of the key")
	flag.Parse()
	if err := run(cfg); err != nil {
		log.Fatal(err)
	}
}

func run(cfg config) error {
	n, err := open(cfg)
	if err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() { served <- n.serve(cfg) }()
	go func() {
		if err := n.read(os.Stdin); err != nil {
			log.Print(err)
		}
	}()
	return n.run(served)
}

// read proposes what it reads.
func (n *node) read(r io.Reader) error {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		var err error
		switch {
		case len(words) == 3 && words[0] == "/add":
			err = n.add(words[1], words[2])
		case len(words) == 1 && words[0] == "/campaign":
			err = n.raft.Campaign(context.Background())
		default:
			err = n.raft.Propose(context.Background(), []byte(lines.Text()))
		}
		if err != nil {
			log.Print(err) // such as raft.ErrProposalDropped
		}
	}
	return lines.Err()
}

// add proposes that a member is added.
func (n *node) add(id, url string) error {
	nodeID, err := strconv.ParseUint(id, 10, 64)
	if err != nil {
		return err
	}
	if nodeID == 0 {
		return errors.New("no member has the id 0")
	}
	if _, err := types.NewURLs([]string{url}); err != nil { // at which AddPeer of every member would panic
		return err
	}
	return n.raft.ProposeConfChange(context.Background(), raftpb.ConfChange{
		Type:    raftpb.ConfChangeAddNode,
		NodeID:  nodeID,
		Context: []byte(url),
	})
}
