package promise

// scenes returns all of them.
func scenes() []scene {
	return []scene{
		{"half a post", "a request whose body stands still is given up in time, and by Stop", playHalfPost},
		{"many posts", "at most 16 posts of one member are read at once", playManyPosts},
		{"many snapshots", "at most MaxSnapshots are received at once", playManySnapshots},
		{"places", "a snapshot that has ended makes room for the next", playPlaces},
		{"cut", "CutPeer drops everything, what is queued included, until MendPeer", playCut},
		{"silent stream", "a peer is active from its first frame, not from the answer to a dial", playSilentStream},
		{"short streams", "a peer that ends its streams at once is dialled less and less often", playShortStreams},
		{"last state", "the last PeerState of a member that was removed says inactive", playLastState},
		{"nobody", "a snapshot for no peer is one failure, and who sends it does not wait for its reader", playNobody},
		{"config", "a field that cannot work is a ConfigError", playConfig},
		{"zone", "the zone of an address is not compared with a certificate", playZone},
		{"handshake", "who refuses a certificate says so in its log", playHandshake},
		{"revoked", "a connection whose certificate was revoked gets no answer, at any endpoint", playRevoked},
		{"spread", "peers are probed one after another, not all at once", playSpread},
		{"store", "a database of a snapshot replaces a damaged one, and none stays that is not used", playStore},
		{"trickle", "a stream that brings a byte now and then is given up in 2 ReadTimeout", playTrickle},
		{"second URL", "a peer is reached by any of its URLs", playSecondURL},
		{"too large", "a message over MaxMessageBytes is not processed", playTooLarge},
		{"late Process", "no Process runs once Stop has returned", playLateProcess},
		{"late answer", "a clock is not warned of for an answer that was late", playLateAnswer},
		{"half a bundle", "the last good authorities hold while a file is half written", playHalfBundle},
		{"no stream", "a stream on a response that has no deadlines is answered 501", playNoStream},
		{"slow line", "a stream, and a post, live as long as bytes move", playSlowLine},
		{"changed file", "a file that changes while it is sent is not finished", playChangedFile},
		{"twins", "two transfers of one snapshot do not interrupt each other", playTwins},
		{"no answer", "a snapshot whose receiver never answers has failed", playNoAnswer},
		{"resumed", "a transfer that breaks goes on where it was, however long it takes", playResumed},
		{"removed", "a message of a removed member is not processed", playRemoved},
		{"shared bound", "what waits for peers that take nothing leaves room for others", playSharedBound},
		{"sent again", "appends that were lost with a stream are taken when raft sends them again", playSentAgain},
		{"resets", "streams that ended leave no goroutine and no connection behind", playResets},
		{"other bytes", "a database is not made of two", playOtherBytes},
	}
}
