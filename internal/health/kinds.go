package health

// The kinds of problems.
const (
	NotStarted         = "not_started"
	Stopped            = "stopped"
	NoMajority         = "no_majority"
	PeerInactive       = "peer_inactive"
	StreamDown         = "stream_down"
	StreamFlaps        = "stream_flaps"
	QueueFull          = "queue_full"
	QueueOld           = "queue_old"
	AppendsSlow        = "appends_slow"
	GroupsBlocked      = "groups_blocked"
	Drops              = "drops"
	LocalMessages      = "local_messages"
	IdentityRefused    = "identity_refused"
	SnapshotFailed     = "snapshot_failed"
	ProbesFail         = "probes_fail"
	Clock              = "clock"
	CertificateExpired = "certificate_expired"
	CertificateExpires = "certificate_expires"
	HandshakeFailed    = "handshake_failed"
	MemoryLimit        = "memory_limit"
)

// Kinds has for each kind of problems the section of docs/operating.md that says what to do.
var Kinds = map[string]string{
	NotStarted:         "health",
	Stopped:            "health",
	NoMajority:         "a-peer-is-inactive",
	PeerInactive:       "a-peer-is-inactive",
	StreamDown:         "a-peer-is-inactive",
	StreamFlaps:        "streams-flap",
	QueueFull:          "a-lane-is-slow",
	QueueOld:           "a-lane-is-slow",
	AppendsSlow:        "a-follower-is-slow",
	GroupsBlocked:      "a-raft-group-is-blocked",
	Drops:              "messages-are-dropped",
	LocalMessages:      "messages-are-dropped",
	IdentityRefused:    "health",
	SnapshotFailed:     "snapshots",
	ProbesFail:         "log-messages",
	Clock:              "log-messages",
	CertificateExpired: "tls-is-refused",
	CertificateExpires: "tls-is-refused",
	HandshakeFailed:    "tls-is-refused",
	MemoryLimit:        "messages-are-dropped",
}
