package wire

// GroupRefusal tells the sender of a message of a raft group why the message was not processed.
type GroupRefusal struct {
	Group    uint64
	From, To uint64 // of the message
	Reason   RefusalReason
}

// RefusalReason is why a message of a group was not processed. Others than these are reserved.
type RefusalReason uint64

// The reasons.
const (
	NoSuchGroup   RefusalReason = 1 // the node does not have the group
	NoSuchReplica RefusalReason = 2 // To is not the replica that the node has
	WasRemoved    RefusalReason = 3 // From was removed from the group
	WasDropped    RefusalReason = 4 // a MsgSnap was dropped for another reason: there was no room for it
	TooLarge      RefusalReason = 5 // the message is over MaxMessageBytes of the node
)

// AppendRefusal appends a refusal. It may precede rows that were appended before.
func (e *GroupEncoder) AppendRefusal(b *Batch, r GroupRefusal) {
	b.buf = append(b.buf, groupRefusal)
	for _, v := range [...]uint64{r.Group, r.From, r.To, uint64(r.Reason)} {
		b.buf = appendVarint(b.buf, v)
	}
}

// Refusal returns the refusal that the last Decode read, if it was one: Decode returns a nil message for it.
func (d *GroupDecoder) Refusal() (r GroupRefusal, ok bool) { return d.refusal, d.refused }

// Skipped returns the refusal of the message that the last Decode skipped since it was too large, if it did: Decode returns a nil message
// for it.
func (d *GroupDecoder) Skipped() (r GroupRefusal, ok bool) { return d.refusal, d.skipped }

// readRefusal reads a refusal, after its type.
func (d *GroupDecoder) readRefusal() error {
	var fields [4]uint64
	for i := range fields {
		v, err := d.src.readVarint()
		if err != nil {
			return err
		}
		fields[i] = v
	}
	d.refusal = GroupRefusal{fields[0], fields[1], fields[2], RefusalReason(fields[3])}
	d.refused = true
	return nil
}
