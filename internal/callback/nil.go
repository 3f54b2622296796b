package callback

import "reflect"

// IsNilPointer reports whether v, which is not nil, holds a nil pointer: an unset variable
// that panics with the first call.
func IsNilPointer(v any) bool {
	p := reflect.ValueOf(v)
	return p.Kind() == reflect.Pointer && p.IsNil()
}

// IsNil is IsNilPointer, for functions as well: a nil function cannot implement a type with one
// method. A Raft may be a function type that ignores messages while nil.
func IsNil(v any) bool {
	p := reflect.ValueOf(v)
	return IsNilPointer(v) || p.Kind() == reflect.Func && p.IsNil()
}
