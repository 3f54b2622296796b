package wire

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
)

// DefaultMaxMessageBytes is the value of a zero Limits.MaxMessageBytes.
const DefaultMaxMessageBytes = 512 << 20

// Limits limits the cost of one frame. The zero value means the defaults.
type Limits struct {
	// MaxMessageBytes limits, in bytes, the encoded length of a
	// message and, separately, its memory once decoded, as
	// MemorySize counts it. Zero means DefaultMaxMessageBytes.
	MaxMessageBytes uint64
	// Reserve is called for the memory of a message beside the bytes that
	// arrived, before it is allocated: an entry of two bytes takes over a hundred.
	// Its error ends the decoding, and is returned. Nil: it is not called.
	// Only ReadMessage, UnmarshalMessage and a GroupDecoder call it.
	Reserve func(bytes uint64) error
}

// maxMessageBytes resolves the zero value, and keeps the limit small enough for
// sums of a few sizes to fit an int.
func (l Limits) maxMessageBytes() uint64 {
	if l.MaxMessageBytes == 0 {
		return DefaultMaxMessageBytes
	}
	return min(l.MaxMessageBytes, math.MaxInt/4)
}

// ErrExceedSizeLimit is wrapped by every SizeError.
var ErrExceedSizeLimit = errors.New("rafthttp: message exceeds the size limit")

// ErrMalformed is wrapped by every error caused by bytes that no correct
// peer sends: an invalid tag, varint or length, an unknown msgapp v2 type, messages
// nested too deeply.
var ErrMalformed = errors.New("rafthttp: malformed message")

var (
	errField   = fmt.Errorf("%w: bad field", ErrMalformed)
	errLength  = fmt.Errorf("%w: field is longer than what contains it", ErrMalformed)
	errNesting = fmt.Errorf("%w: nested too deep", ErrMalformed)
)

// SizeError describes the value that was too large. errors.Is(err, ErrExceedSizeLimit)
// is true for it.
type SizeError struct {
	What  string // the value: "message", "decoded message", "body"
	Size  uint64 // declared bytes, or bytes read until it was refused
	Limit uint64 // bytes allowed
}

// Error implements error.
func (e *SizeError) Error() string {
	return fmt.Sprintf("%v: %s of %d bytes, limit %d", ErrExceedSizeLimit, e.What, e.Size, e.Limit)
}

// Unwrap returns ErrExceedSizeLimit.
func (e *SizeError) Unwrap() error { return ErrExceedSizeLimit }

// budget is the memory that the message being decoded may still use.
type budget struct {
	left, limit uint64

	reserve  func(bytes uint64) error // Limits.Reserve
	reserved uint64                   // by it, and not used yet
}

func newBudget(limit uint64) budget { return budget{left: limit, limit: limit} }

// charge takes n bytes off the budget, before they are allocated.
func (b *budget) charge(n uint64) error {
	if n > b.left {
		return b.exceeded(n)
	}
	b.left -= n
	return nil
}

// chargeStructs is charge for memory that is not filled by bytes of the message.
func (b *budget) chargeStructs(n uint64) error {
	if n > b.left {
		return b.exceeded(n)
	}
	b.left -= n
	if b.reserve != nil {
		return b.useReserved(n)
	}
	return nil
}

func (b *budget) useReserved(n uint64) error {
	if err := b.reserveAhead(n); err != nil {
		return err
	}
	b.reserved -= n
	return nil
}

// reserveAhead reserves memory for later calls of chargeStructs that is allocated
// at once.
func (b *budget) reserveAhead(n uint64) error {
	if b.reserve == nil || n <= b.reserved {
		return nil
	}
	if err := b.reserve(n - b.reserved); err != nil {
		return err
	}
	b.reserved = n
	return nil
}

func (b *budget) exceeded(n uint64) error {
	return &SizeError{What: "decoded message", Size: saturated(b.limit-b.left, n), Limit: b.limit}
}

// saturated returns a+b, or the largest uint64 on overflow.
func saturated(a, b uint64) uint64 {
	sum, carry := bits.Add64(a, b, 0)
	if carry != 0 {
		return math.MaxUint64
	}
	return sum
}

// saturatedMul returns a*b, or the largest uint64 on overflow.
func saturatedMul(a, b uint64) uint64 {
	high, low := bits.Mul64(a, b)
	if high != 0 {
		return math.MaxUint64
	}
	return low
}
