package node

import "dsoftbus-rig/rig/live"

// Status says how every node is.
func (w *World) Status() []live.NodeInfo {
	w.mu.Lock()
	nodes := append([]*Node(nil), w.nodes...)
	w.mu.Unlock()
	out := make([]live.NodeInfo, len(nodes))
	for i, n := range nodes {
		out[i] = n.status()
	}
	return out
}

func (n *Node) status() live.NodeInfo {
	info := live.NodeInfo{Name: n.name, Address: n.addr.String()}
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.life
	switch {
	case l == nil:
		info.State = "down"
	case l.machine.Err() != nil:
		info.State = "exited"
	case l.frozen || l.halted:
		info.State = "frozen"
	case l.paused:
		info.State = "paused"
	case l.agent == nil:
		info.State = "starting"
	default:
		info.State = "up"
	}
	return info
}
