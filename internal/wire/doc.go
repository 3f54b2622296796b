// Package wire turns raft messages into the bytes that peers exchange, and back.
//
// It has three layers, each built on the one before:
//
//   - the protobuf encoding of raftpb.Message and its parts
//     (proto_encode.go, proto_decode.go, proto_stream.go), equal to
//     proto.Marshal and proto.Unmarshal byte for byte and value for value;
//   - framing: the message stream (message.go) and the msgapp v2 stream
//     (msgappv2.go), each an Encoder and a Decoder, and the frames of many
//     raft groups (group_*.go), a GroupEncoder and a GroupDecoder;
//   - memory: Batch collects frames for one write, Reader is the buffered
//     source of a Decoder, Limits limits the cost of a frame.
//
// It does no I/O except through its io.Reader and io.Writer arguments, starts
// no goroutine and logs nothing. No type here is safe for concurrent use,
// except that any number of goroutines may encode the same message: encoding
// only reads it.
//
// # Limits
//
// Bytes from a peer are not trusted. A declared length makes the decoder
// allocate at most 1 MiB ahead of the bytes that arrived, and a message is
// refused (SizeError) as soon as its frame or its memory, as MemorySize counts
// it, would exceed Limits.MaxMessageBytes. Only in this does a decoder differ from
// proto.Unmarshal, which has no limit.
package wire
