package server

import (
	"crypto/sha256"
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
	opPutIf        = 4 // value: a condition, and then what to put
)

// condition is the SHA-256 of the value that a key must have for a write to be
// carried out. The zero value, which no value has, is for none.
type condition [sha256.Size]byte

func (c condition) holds(value []byte) bool {
	if value == nil {
		return c == condition{}
	}
	return c == sha256.Sum256(value)
}

// putIf returns a command that puts a value if the condition holds.
func putIf(key []byte, c condition, value []byte) command {
	return command{op: opPutIf, key: key, value: append(c[:], value...)}
}

// conditional takes apart the value of an opPutIf.
func (c command) conditional() (cond condition, value []byte, err error) {
	if len(c.value) < len(cond) {
		return cond, nil, errBadCommand
	}
	return condition(c.value[:len(cond)]), c.value[len(cond):], nil
}

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
