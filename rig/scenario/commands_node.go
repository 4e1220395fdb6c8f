package scenario

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"dsoftbus-rig/rig/record"
)

func nodeCommands() []command {
	nodeArg := argument{name: "NODE", kind: nodeList}
	programArg := argument{name: "PROGRAM", kind: program}
	serviceArg := argument{name: "PROGRAM", kind: service}
	rest := argument{name: "ARG", kind: anyText, optional: true, repeat: true}
	return []command{
		{
			name:    "node",
			idle:    true,
			summary: "declares a third (fourth, …) node before `up`",
			detail:  "A and B are always there. NODE is a capital letter, then capital letters and digits, eight at most.",
			forms:   []form{{args: []argument{{name: "NODE", kind: newNode}}}},
			check: func(k *checker, _ *Statement, b *binding) {
				name, _ := b.args[0].word.constant()
				if _, there := k.scope.known[name+"_IP"]; ValidNode(name) && !there {
					k.scope.addNode(name)
				}
			},
			run: func(_ context.Context, c *call) error {
				if err := c.engine.cfg.World.Declare(c.arg("NODE")); err != nil {
					return failed(record.StepFailed, "declare node %s: %w", c.arg("NODE"), err)
				}
				return nil
			},
		},
		{
			name:    "up",
			summary: "makes nodes ready: fresh machines with identity, clock, entropy, fixtures, pairing and the standard services",
			detail: "The standard services are `packagefsd` and `dsoftbusd`; it waits until they and the machines are ready. " +
				"Without NODE it means all nodes.",
			forms: []form{{
				flags: []flag{
					within,
					{name: "cold", summary: "boot from the kernel on, instead of resuming a saved machine"},
					{name: "only", summary: "start no service"},
				},
				args: []argument{{name: "NODE", kind: anyNode, optional: true, repeat: true}},
			}},
			deadline: bootDeadline,
			check: func(k *checker, st *Statement, b *binding) {
				if k.scope.upLine == 0 {
					k.scope.upLine = st.Line
				}
				for _, a := range b.args {
					if name, known := k.scope.value(a.word); known && name != "*" {
						k.scope.bringUp(name)
						continue
					}
					k.allUp(st)
				}
				if len(b.args) == 0 {
					k.allUp(st)
				}
				if _, only := b.flags["only"]; !only {
					for _, s := range services {
						k.scope.started[s] = true
					}
				}
			},
			run: runUp,
		},
		{
			name:     "start",
			summary:  "starts a supervised service; its lines become markers of that node",
			detail:   "One that ends by itself with an exit status other than 0 ends the scenario, unless `allow` expects the agent's line (`PROGRAM ended: exit status 1`).",
			forms:    []form{{flags: []flag{within}, args: []argument{nodeArg, serviceArg, rest}}},
			prefixes: "!?*", deadline: waitDeadline,
			check: checkRun,
			run: func(ctx context.Context, c *call) error {
				return c.eachNode(ctx, "start "+c.arg("PROGRAM"), func(n Node) error {
					return n.Start(ctx, c.arg("PROGRAM"), c.all("ARG"))
				})
			},
		},
		{
			name:    "stop",
			acts:    true,
			summary: "ends the script here; with a node and a program it ends that service and waits until it has",
			detail:  "A script that is ended this way passes. Only the form that ends a service takes prefixes.",
			forms: []form{
				{args: []argument{{name: "WHY", kind: anyText, optional: true}}},
				{flags: []flag{within}, args: []argument{nodeArg, serviceArg}},
			},
			prefixes: "!?*", deadline: waitDeadline,
			check: checkStop,
			run: func(ctx context.Context, c *call) error {
				if c.form == 0 {
					return &End{Why: c.arg("WHY")}
				}
				return c.eachNode(ctx, "stop "+c.arg("PROGRAM"), func(n Node) error { return n.Stop(ctx, c.arg("PROGRAM")) })
			},
		},
		{
			name:    "kill",
			acts:    true,
			summary: "sends a signal to a service, SIGKILL unless told otherwise",
			forms: []form{{
				flags: []flag{within, {name: "s", value: "SIGNAL", kind: signal, summary: "the signal, with or without SIG"}},
				args:  []argument{nodeArg, serviceArg},
			}},
			prefixes: "!?*", deadline: waitDeadline,
			check: checkService,
			run: func(ctx context.Context, c *call) error {
				name := "KILL"
				if c.has("s") {
					name = strings.TrimPrefix(c.flags["s"], "SIG")
				}
				return c.eachNode(ctx, "kill "+c.arg("PROGRAM"), func(n Node) error { return n.Kill(ctx, c.arg("PROGRAM"), "SIG"+name) })
			},
		},
		{
			name:    "exec",
			summary: "runs to completion; its exit status decides, its output is in `stdout`/`stderr`",
			detail: "It must be 0, behind `!` another one, with `-status N` it must be N. With `*` for NODE it runs on all nodes at once; " +
				"their output is put together in the order of the nodes.",
			forms: []form{{
				flags: []flag{within, {name: "status", value: "N", kind: exitStatus, summary: "the exit status that it must end with"}},
				args:  []argument{nodeArg, programArg, rest},
			}},
			prefixes: "!?*", background: true, output: true, deadline: execDeadline,
			check: func(k *checker, st *Statement, b *binding) {
				if _, given := b.flags["status"]; given && (st.not || st.may) {
					k.problem(st, faultf("leave one of them out", "exec: -status says already how the program must end, and so does the prefix"))
				}
				checkRun(k, st, b)
			},
			run: runExec,
		},
		{
			name:    "push",
			summary: "copies FILE from `$WORK` to DEST on a node",
			forms: []form{{
				flags: []flag{within},
				args:  []argument{nodeArg, {name: "FILE", kind: file}, {name: "DEST", kind: guestPath}},
			}},
			prefixes: "!?*", background: true, deadline: waitDeadline,
			check: func(k *checker, _ *Statement, b *binding) { k.mentionAll(append(b.all("FILE"), b.all("DEST")...)) },
			run: func(ctx context.Context, c *call) error {
				src, err := c.engine.hostPath(c.arg("FILE"))
				if err != nil {
					return failed(record.Invalid, "push: %w", err)
				}
				if info, err := os.Stat(src); err != nil || info.IsDir() {
					return onHost("push: there is no file %s", c.arg("FILE"))
				}
				return c.eachNode(ctx, "push "+c.arg("FILE"), func(n Node) error { return n.Push(ctx, src, c.arg("DEST")) })
			},
		},
		{
			name:    "pull",
			summary: "copies SRC on a node to FILE in `$WORK`",
			forms: []form{{
				flags: []flag{within},
				args:  []argument{{name: "NODE", kind: oneNode}, {name: "SRC", kind: guestPath}, {name: "FILE", kind: newFile}},
			}},
			prefixes: "!?*", background: true, deadline: waitDeadline,
			run: func(ctx context.Context, c *call) error {
				if err := c.engine.makeRoom(c.arg("FILE")); err != nil {
					return onHost("pull: %w", err)
				}
				dst, err := c.engine.hostPath(c.arg("FILE"))
				if err != nil {
					return failed(record.Invalid, "pull: %w", err)
				}
				if info, err := os.Stat(dst); err == nil && info.IsDir() {
					return onHost("pull: %s is a folder", c.arg("FILE"))
				}
				return c.eachNode(ctx, "pull "+c.arg("SRC"), func(n Node) error { return n.Pull(ctx, c.arg("SRC"), dst) })
			},
		},
	}
}

// checkStop finds the ways to write one form of `stop` and mean the other, which
// would end a scenario as passed.
func checkStop(k *checker, st *Statement, b *binding) {
	if b.form != 0 {
		checkService(k, st, b)
		return
	}
	if st.not || st.may || st.retry {
		k.problem(st, faultf("leave it out", "a prefix makes no sense in front of `stop` when it ends the script"))
	}
	why, known := "", true
	if len(b.args) > 0 {
		why, known = k.scope.value(b.args[0].word)
	}
	if known && (k.scope.declared(why) == nil || why == "*" || slices.Contains(services, why)) {
		k.problem(st, faultf("write `stop NODE PROGRAM` to end a service, or give the reason in other words",
			"`stop %s` would end the script", why))
		return
	}
	if len(st.conditions) == 0 {
		k.ended = st
	}
}

// eachNode calls f with every node of the call.
func (c *call) eachNode(ctx context.Context, doing string, f func(Node) error) error {
	return c.each(func(name string) error {
		doing := "node " + name + ": " + doing
		n, err := c.node(ctx, name, doing)
		if err != nil {
			return err
		}
		if err := f(n); err != nil {
			return c.explain(ctx, name, doing, err)
		}
		return nil
	})
}

// node returns a node that can be asked for something. A node that is down or paused
// has not failed at it.
func (c *call) node(ctx context.Context, name, doing string) (Node, error) {
	n, err := c.engine.cfg.World.Node(name)
	if err == nil {
		return n, nil
	}
	err = c.explain(ctx, name, doing, err)
	if se, ok := err.(*stepError); ok && !se.late {
		se.trouble = true
	}
	return nil, err
}

func runUp(ctx context.Context, c *call) error {
	o := UpOptions{Cold: c.has("cold"), Only: c.has("only")}
	for _, name := range c.all("NODE") {
		if name == "*" {
			o.Nodes = nil
			break
		}
		o.Nodes = append(o.Nodes, name)
	}
	if err := c.engine.cfg.World.Up(ctx, o); err != nil {
		return c.explain(ctx, "", "bring nodes up", err)
	}
	return nil
}

func runExec(ctx context.Context, c *call) error {
	argv := append([]string{c.arg("PROGRAM")}, c.all("ARG")...)
	outs := make(map[string]*output, len(c.nodes))
	for _, name := range c.nodes {
		outs[name] = &output{}
	}
	err := c.each(func(name string) error { return c.execOn(ctx, name, argv, outs[name]) })
	c.out.nodes = c.nodes
	for _, name := range c.nodes {
		c.out.stdout.add(outs[name].stdout)
		c.out.stderr.add(outs[name].stderr)
	}
	return err
}

// execOn runs a program on one node.
func (c *call) execOn(ctx context.Context, name string, argv []string, out *output) error {
	doing := "node " + name + ": exec " + argv[0]
	n, err := c.node(ctx, name, doing)
	if err != nil {
		return err
	}
	stdout := &stream{teller: c.teller, name: "stdout", node: name}
	stderr := &stream{teller: c.teller, name: "stderr", node: name}
	start := time.Now()
	exit, err := n.Exec(ctx, argv, stdout, stderr)
	out.stdout, out.stderr = stdout.close(), stderr.close()
	if err != nil {
		err = c.explain(ctx, name, doing, err)
		if se, ok := err.(*stepError); ok && !se.late {
			se.trouble = true
		}
		return err
	}
	wanted := c.number("status") // 0 without the flag
	if exit == wanted {
		return nil
	}
	text := fmt.Sprintf("exit status %d", exit)
	if line := out.stderr.lastLine(); line != "" {
		text += ": " + line
	}
	se := &stepError{reason: record.ExecStatus, node: name,
		awaited: fmt.Sprintf("%s to end with status %d", argv[0], wanted),
		err:     fmt.Errorf("%s: %s, after %s", doing, text, time.Since(start).Round(time.Millisecond))}
	if c.st.not && exit == usageStatus {
		se.trouble = true
		se.err = fmt.Errorf("%w: '!' needs it to run and fail", se.err)
		se.next = fmt.Sprintf("Status %d is how a node's programs say that they were called wrongly: "+
			"correct the arguments, or ask for it with -status %[1]d.", usageStatus)
	}
	return se
}

// usageStatus is the exit status of the node's programs for wrong usage (package
// flag, and nodes/cli): such a program has done nothing of what it was asked for.
const usageStatus = 2
