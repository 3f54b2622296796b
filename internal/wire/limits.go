package wire

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
)

// DefaultMaxMessageBytes is what a zero Limits.MaxMessageBytes means.
const DefaultMaxMessageBytes = 512 << 20

// Limits bounds what one frame may cost. The zero value means the defaults.
type Limits struct {
	// MaxMessageBytes is the bound, in bytes, for the encoded length of a
	// message and, separately, for the memory it takes once decoded, as
	// MemorySize counts it. Zero means DefaultMaxMessageBytes.
	MaxMessageBytes uint64
	// Reserve is called for what a message takes in memory beside the bytes that
	// came, before it is taken: an entry of two bytes takes over a hundred.
	// Its error ends the decoding, and is what that returns. Nil: nobody is asked.
	// Only ReadMessage and UnmarshalMessage call it.
	Reserve func(bytes uint64) error
}

// maxMessageBytes resolves the zero value, and keeps the bound small enough for
// sums of a few sizes to fit an int.
func (l Limits) maxMessageBytes() uint64 {
	if l.MaxMessageBytes == 0 {
		return DefaultMaxMessageBytes
	}
	return min(l.MaxMessageBytes, math.MaxInt/4)
}

// ErrExceedSizeLimit is what every SizeError is, for errors.Is.
var ErrExceedSizeLimit = errors.New("rafthttp: message exceeds the size limit")

// ErrMalformed is wrapped by every error that bytes cause which no correct
// peer sends: a bad tag, varint or length, an unknown msgapp v2 type, messages
// nested too deep.
var ErrMalformed = errors.New("rafthttp: malformed message")

var (
	errField   = fmt.Errorf("%w: bad field", ErrMalformed)
	errLength  = fmt.Errorf("%w: field is longer than what contains it", ErrMalformed)
	errNesting = fmt.Errorf("%w: nested too deep", ErrMalformed)
)

// SizeError says what was larger than allowed. errors.Is(err, ErrExceedSizeLimit)
// holds for it.
type SizeError struct {
	What  string // what was too large: "message", "decoded message", "body"
	Size  uint64 // bytes it declared, or had reached when it was given up
	Limit uint64 // bytes allowed
}

// Error implements error.
func (e *SizeError) Error() string {
	return fmt.Sprintf("%v: %s of %d bytes, limit %d", ErrExceedSizeLimit, e.What, e.Size, e.Limit)
}

// Unwrap returns ErrExceedSizeLimit.
func (e *SizeError) Unwrap() error { return ErrExceedSizeLimit }

// budget is the memory that the message being decoded may still take.
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

// chargeStructs is charge for memory that no bytes of the message fill.
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

// reserveAhead reserves what chargeStructs will be called for, where that is allocated
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

// saturated returns a+b, or the largest uint64 where that is less.
func saturated(a, b uint64) uint64 {
	sum, carry := bits.Add64(a, b, 0)
	if carry != 0 {
		return math.MaxUint64
	}
	return sum
}

// saturatedMul returns a*b, or the largest uint64 where that is less.
func saturatedMul(a, b uint64) uint64 {
	high, low := bits.Mul64(a, b)
	if high != 0 {
		return math.MaxUint64
	}
	return low
}
