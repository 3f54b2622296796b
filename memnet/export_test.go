package memnet

// Sides returns how many sides of connections the network and its links hold.
func (n *Network) Sides() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	sides := len(n.conns)
	for _, l := range n.links {
		sides = max(sides, 2*len(l.paths))
	}
	return sides
}
