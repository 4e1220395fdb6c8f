package scenario

import "context"

func powerCommands() []command {
	nodeArg := argument{name: "NODE", kind: nodeList}
	power := func(name, summary, detail string, deadline deadlineClass, do func(World) func(context.Context, string) error) command {
		return command{
			name: name, acts: true, summary: summary, detail: detail,
			forms:    []form{{flags: []flag{within}, args: []argument{nodeArg}}},
			prefixes: "!?", deadline: deadline,
			run: func(ctx context.Context, c *call) error {
				return c.each(func(node string) error {
					return c.faulted(ctx, node, name+" node "+node, do(c.engine.cfg.World)(ctx, node))
				})
			},
		}
	}
	crash := power("crash", "cuts a node's power: nothing is flushed, nobody is told", "`up NODE` brings it back, with the identity it had and a fresh disk.",
		waitDeadline, func(w World) func(context.Context, string) error { return w.Crash })
	crash.check = func(k *checker, _ *Statement, b *binding) {
		for _, node := range k.nodes(b) {
			k.scope.up[node] = false
		}
	}
	pause := power("pause", "stops a node's processor; for the node no time passes", "Until `resume` nothing can be done on it, and it is not missed.",
		waitDeadline, func(w World) func(context.Context, string) error { return w.Pause })
	pause.check = func(k *checker, st *Statement, b *binding) {
		sure := len(st.conditions) == 0 && !st.not && !st.may
		for _, node := range k.nodes(b) {
			k.scope.paused[node] = sure
		}
	}
	resume := power("resume", "lets a paused node go on", "", waitDeadline, func(w World) func(context.Context, string) error { return w.Resume })
	reset := power("reset", "presses a node's reset button: it boots again from its kernel",
		"It is the same node afterwards, configured, with its fixtures as they were first, and with the standard services if it was brought up with them.",
		bootDeadline, func(w World) func(context.Context, string) error { return w.Reset })
	for _, cmd := range []*command{&resume, &reset} {
		cmd.check = func(k *checker, _ *Statement, b *binding) {
			for _, node := range k.nodes(b) {
				delete(k.scope.paused, node)
			}
		}
	}
	return []command{pause, resume, crash, reset}
}

// nodes returns the nodes that the arguments of a statement name, as far as they are
// known.
func (k *checker) nodes(b *binding) []string {
	var nodes []string
	for _, a := range b.args {
		name, known := k.scope.value(a.word)
		for _, node := range k.scope.nodes {
			if known && (name == node || name == "*") && a.argument.name == "NODE" {
				nodes = append(nodes, node)
			}
		}
	}
	return nodes
}
