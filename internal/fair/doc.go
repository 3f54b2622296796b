// Package fair has bounded queues that the messages of many raft groups share, without a group that blocks
// or floods delaying the others.
//
// A SendQueue has the outgoing messages of many groups for one connection. They leave by deficit round robin, in
// bytes, among the flows with messages. A Pool has a bounded number of workers that give received messages to
// Process: in order within an Inbox, round robin among inboxes, and with another worker in place of each whose
// Process blocks.
//
// A flow, or an inbox, has the messages of one kind of one replica of one group. It may hold as much as is
// left, and less as little is left: so one group that floods leaves half of the room to the others, and n leave
// 1/(n+1). However many they are, the last eighth is for the first messages of flows, and up to 1/1024 of the limit
// for each: it suffices for hundreds of floods. The last sixteenth of the bytes is for messages of up to 1/1024 of them.
//
// An offer may wait for room in an inbox, and with it a stream that has messages of other groups: as long as Process moves, that
// is, releases a message of the inbox every few milliseconds. While a Stream brings messages of others, it waits for slow ones for a
// part of the time.
//
// A flow without messages costs no memory but its struct, and no goroutine or timer. The package knows the size and
// kind of messages; it knows nothing of peers, connections or requests.
package fair
