package statuspage

// Anchors are the sections of docs/operating.md that problems link to.
var Anchors = []string{
	anchorInactive, anchorTLS, anchorSlow, anchorDrops, anchorFlap, anchorLog, anchorSnapshots,
}
