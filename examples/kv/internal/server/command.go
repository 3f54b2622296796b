package server

import (
	"encoding/binary"
	"errors"
)

// command is what a normal log entry carries.
//
//	op (1 byte), request (8 bytes), length of the key (uvarint), key, value
type command struct {
	op      byte
	request uint64 // finds the client's request again when the entry is applied
	key     []byte
	value   []byte
}

const (
	opPut          = 1
	opDelete       = 2
	opUpdateMember = 3 // value: a storage.Member as JSON
)

var errBadCommand = errors.New("undecodable command")

func (c command) encode() []byte {
	b := make([]byte, 0, 1+8+binary.MaxVarintLen16+len(c.key)+len(c.value))
	b = append(b, c.op)
	b = binary.BigEndian.AppendUint64(b, c.request)
	b = binary.AppendUvarint(b, uint64(len(c.key)))
	b = append(b, c.key...)
	return append(b, c.value...)
}

// decodeCommand returns a command that shares the memory of b.
func decodeCommand(b []byte) (command, error) {
	if len(b) < 1+8+1 {
		return command{}, errBadCommand
	}
	c := command{op: b[0], request: binary.BigEndian.Uint64(b[1:])}
	b = b[1+8:]
	n, used := binary.Uvarint(b)
	if used <= 0 || n > uint64(len(b)-used) {
		return command{}, errBadCommand
	}
	b = b[used:]
	c.key, c.value = b[:n:n], b[n:]
	return c, nil
}
