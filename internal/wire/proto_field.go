package wire

import "google.golang.org/protobuf/encoding/protowire"

// consumeTag reads a field's tag from the start of b. n is its length, or not
// above 0 if there is no valid tag.
func consumeTag(b []byte) (num uint64, typ protowire.Type, n int) {
	tag, n := consumeVarint(b)
	num, typ = tag>>3, protowire.Type(tag&7)
	if num < uint64(protowire.MinValidNumber) || num > uint64(protowire.MaxValidNumber) {
		return 0, 0, -1
	}
	return num, typ, n
}

func consumeVarint(b []byte) (v uint64, n int) {
	if len(b) > 0 && b[0] < 0x80 {
		return uint64(b[0]), 1
	}
	return protowire.ConsumeVarint(b)
}

// usualVarint reads the field at the start of b if it has this tag, of one byte,
// and a varint. Otherwise n is 0.
func usualVarint(b []byte, tag byte) (v uint64, n int) {
	if len(b) < 2 || b[0] != tag {
		return 0, 0
	}
	if b[1] < 0x80 {
		return uint64(b[1]), 2
	}
	if v, n = protowire.ConsumeVarint(b[1:]); n < 0 {
		return 0, 0
	}
	return v, n + 1
}

// consumeField reads the field at the start of b: v is the value of a varint,
// val the content of a length-delimited field; a field of another type is only
// skipped. n is the length of the complete field, or not above 0 if there is no valid
// field.
func consumeField(b []byte) (num uint64, typ protowire.Type, v uint64, val []byte, n int) {
	num, typ, tag := consumeTag(b)
	if tag <= 0 {
		return 0, 0, 0, nil, -1
	}
	switch typ {
	case protowire.VarintType:
		v, n = consumeVarint(b[tag:])
	case protowire.BytesType:
		v, n = consumeVarint(b[tag:])
		if n <= 0 || v > uint64(len(b)-tag-n) {
			return 0, 0, 0, nil, -1
		}
		val = b[tag+n:][:v]
		n += int(v)
	default:
		n = protowire.ConsumeFieldValue(protowire.Number(num), typ, b[tag:])
	}
	if n <= 0 {
		// An empty group has an end tag: every value has bytes.
		return 0, 0, 0, nil, -1
	}
	return num, typ, v, val, tag + n
}
