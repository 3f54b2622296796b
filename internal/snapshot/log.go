package snapshot

import (
	"slices"

	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"golang.org/x/time/rate"
)

// TransferLog is the log of one transfer. It is silent if too many were logged
// recently: raft may request the same snapshot again and again, and a transfer without
// new bytes takes no time.
func TransferLog(lines *rate.Limiter, log *zap.Logger) *zap.Logger {
	if !lines.Allow() {
		return zap.NewNop()
	}
	return log
}

// WarnUnlessNamed warns of a snapshot that was made before its receiver became a
// member: raft ignores a snapshot whose ConfState does not contain it, and requests the
// same again.
func WarnUnlessNamed(log *zap.Logger, receiver uint64, s *raftpb.Snapshot) {
	conf := s.GetMetadata().GetConfState()
	// A member of LearnersNext is also one of VotersOutgoing.
	for _, ids := range [][]uint64{conf.GetVoters(), conf.GetLearners(), conf.GetVotersOutgoing()} {
		if slices.Contains(ids, receiver) {
			return
		}
	}
	log.Warn("the ConfState of a snapshot lacks the member that it is for, whose raft ignores it")
}
