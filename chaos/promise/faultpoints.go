package promise

// faultPoints has fault points inside the library, where it is built with them, do what a seed decides, until end is
// called.
var faultPoints = func(uint64) (end func()) { return func() {} }
