// Package live is how a scenario that runs can be reached from another terminal: who is alive, what each can be asked, and how it is asked.
//
// It owns the sockets and what is said on them. What a scenario does when it is asked is its own: see Scenario.
package live

import (
	"context"
	"encoding/json"
	"io"
	"time"

	"dsoftbus-rig/nodes/agentapi"
	"dsoftbus-rig/rig/console"
	"dsoftbus-rig/rig/record"
)

// A Scenario is one that is alive. Its methods may be called concurrently, and return soon after their context has ended.
type Scenario interface {
	// Status says where it stands.
	Status() Status

	// Do runs one line of the scenario language, or a command of the prompt, and returns when it is done. tell gets the events of that line as they
	// come, from one goroutine at a time; it never waits. The error says in full what went wrong, and is scenario.Problems when the line makes no
	// sense. ctx ends the line, and nothing else.
	Do(ctx context.Context, line string, tell func(record.Event)) error

	// Complete returns what the word at byte pos of a line can become, and the byte where that word starts.
	Complete(line string, pos int) (start int, words []string)

	// Follow passes on the scenario's events from now on, until ctx ends or the scenario has: then it returns nil. tell never waits.
	Follow(ctx context.Context, tell func(record.Event)) error

	// Log returns what a node has printed, nil for a node that is not declared.
	Log(node string) *console.Log

	// Machine returns a node that is up; for any other the error says why it is not.
	Machine(node string) (Machine, error)

	// Debug has a debugger begin its work in a node's machine.
	Debug(ctx context.Context, o DebugOptions) (Debugger, error)

	// SteppedIn notes that a person does something that the scenario does not: it can pass as repaired only from now on. what is half a
	// sentence: "attach A".
	SteppedIn(what string)
}

// A Machine is what can be done with a node that is up.
type Machine interface {
	// Shell runs a program on a terminal of its own, to its end. in is what is typed; at its end nothing more is. A Read that waits when the
	// program ends is ended by the caller then. sizes are the terminal's, as they change. When ctx ends the terminal hangs up.
	Shell(ctx context.Context, s agentapi.Shell, in io.Reader, out io.Writer, sizes <-chan agentapi.Size) (agentapi.Exit, error)

	// Dial connects to a TCP port of the machine's own loopback address; nothing of it is on the network under test. ctx is for connecting only.
	// A connection that has CloseWrite() error can be closed one way, as TCP's can.
	Dial(ctx context.Context, port uint16) (io.ReadWriteCloser, error)

	// Push copies the host's file src to dst on the node, Pull copies src on the node to the host's file dst.
	Push(ctx context.Context, src, dst string) error
	Pull(ctx context.Context, src, dst string) error

	// QMP executes a command of QEMU's machine protocol, with arguments or with nil, and returns what it returns.
	QMP(ctx context.Context, command string, arguments json.RawMessage) (json.RawMessage, error)

	// Dump writes the machine's memory to the host's file, an ELF core. The machine stands still meanwhile.
	Dump(ctx context.Context, file string) error

	// Stacks returns the goroutines of a program of ours, which runs on undisturbed.
	Stacks(ctx context.Context, program string) ([]byte, error)
}

// Status is where a scenario stands.
type Status struct {
	Run      string     `json:"run"`              // the run's folder
	Source   string     `json:"source,omitempty"` // the folder of the project that the run was started in
	Scenario string     `json:"scenario"`         // "roundtrip/basic"
	Started  time.Time  `json:"started"`
	Step     *Place     `json:"step,omitempty"` // the step that runs, or at which it stands; nil between start and first step
	Held     string     `json:"held,omitempty"` // why it stands still and waits for a person; empty while it runs
	Nodes    []NodeInfo `json:"nodes"`
}

// A Place is a line of a scenario.
type Place struct {
	File string `json:"file"`
	Line int    `json:"line"`
	Text string `json:"text"`
}

// NodeInfo is what there is to say of a node.
type NodeInfo struct {
	Name    string `json:"name"`
	Address string `json:"address"`
	State   string `json:"state"` // "down", "starting", "up", "paused", "frozen" (by a debugger), "exited"
}
