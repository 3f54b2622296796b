package server

// DecodeCommand decodes what an entry carries, and encodes it again.
func DecodeCommand(b []byte) (again []byte, err error) {
	c, err := decodeCommand(b)
	return c.encode(), err
}

// EncodePut encodes a command that sets a key.
func EncodePut(request uint64, key, value string) []byte {
	return command{op: opPut, request: request, key: []byte(key), value: []byte(value)}.encode()
}
