package scenario

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"regexp"
	"strings"
	"time"

	"dsoftbus-rig/rig/console"
	"dsoftbus-rig/rig/record"
)

// A World is what a scenario acts on: the nodes and the network between them.
//
// Its methods, and those of what they return, may be called concurrently. Each that
// takes a context returns soon after the context has ended, and has then stopped
// using what it was given. An error may be, or wrap, a *NodeError to say what class
// it is; any other counts as a failed step.
type World interface {
	// Declare adds a node before any is up. It gets the next address, see NodeAddress.
	Declare(name string) error

	// Up makes nodes ready: fresh machines, configured, with their fixtures and, if
	// asked for, their services.
	Up(ctx context.Context, o UpOptions) error

	// Node returns a node that is up; for any other the error says why it is not.
	Node(name string) (Node, error)

	// Names returns all nodes in the order of their addresses, A and B first.
	Names() []string

	// Log returns what a node has printed, whether it is up or not: the same log for as
	// long as the scenario lasts. It is nil for a node that is not declared.
	Log(name string) *console.Log

	// Pause stops a node's processor. A paused node is up, but of no use.
	Pause(ctx context.Context, name string) error

	// Resume lets a paused node go on.
	Resume(ctx context.Context, name string) error

	// Reset presses a node's reset button, paused or not, and returns when it has
	// booted and is configured again, with the standard services if it had them.
	Reset(ctx context.Context, name string) error

	// Crash cuts a node's power, paused or not. It is not up any more.
	Crash(ctx context.Context, name string) error

	// Link does something to a node's cable; Block and Unblock filter frames between two
	// nodes, one way, nil meaning all blocks there are; Partition lets no frame cross; Heal
	// ends all of these. A fault that this host and the nodes have no means for is an error.
	Link(ctx context.Context, name string, l Link) error
	Block(ctx context.Context, b Block) error
	Unblock(ctx context.Context, which *Block) error
	Partition(ctx context.Context, maybe bool) error
	Heal(ctx context.Context) error

	// Clock steps a node's wall clock.
	Clock(ctx context.Context, name string, by time.Duration) error

	// Unproven looks at the faults in force for the last time, and returns all of the
	// scenario that never touched anything, each in half a sentence.
	Unproven(ctx context.Context) ([]string, error)

	LAN() LAN
}

// UpOptions are the options of `up`.
type UpOptions struct {
	Nodes []string // nil means all
	Cold  bool     // boot from the kernel on
	Only  bool     // start no service
}

// A Node is one node that is up. Where a program could not be started, or there is no
// service of that name that ever was, the error is a *NodeError of record.NotStarted.
type Node interface {
	// Start starts a supervised service and returns when it runs.
	Start(ctx context.Context, program string, args []string) error

	// Stop asks a service to end and returns when it has.
	Stop(ctx context.Context, program string) error

	// Kill sends a signal ("SIGKILL") to a service.
	Kill(ctx context.Context, program, signal string) error

	// Exec runs a program to completion. The exit status is the program's own; err is
	// for all that kept the rig from learning it. The
	// writers may be written to by two goroutines, one each, and not after the return.
	Exec(ctx context.Context, argv []string, stdout, stderr io.Writer) (exit int, err error)

	// Push copies the host's file src to dst on the node.
	Push(ctx context.Context, src, dst string) error

	// Pull copies src on the node to the host's file dst.
	Pull(ctx context.Context, src, dst string) error
}

// A LAN lets the rig itself take part in the nodes' network.
type LAN interface {
	// TCP connects to addr, sends send, and returns what came back when the other side
	// has closed the connection. When ctx ends first it returns what came until then
	// together with the error.
	TCP(ctx context.Context, addr netip.AddrPort, send []byte) (answer []byte, err error)

	// UDP sends one datagram. A zero address or port in from is the rig's own choice;
	// any other is written into the packet, whoever owns it.
	UDP(ctx context.Context, from, to netip.AddrPort, payload []byte) error
}

// A NodeError says what befell a node. As an error of a World's method, or as the
// cause a console.Log was ended with, it gives that error its class. Given to
// Engine.Fail, or as the cause of a cancelled context, it ends the scenario.
type NodeError struct {
	Node   string        // "A"; empty when it concerns all
	Reason record.Reason // kernel-panic, node-exited, agent-lost, …
	Text   string        // the line of the node that told, if one did
	Err    error         // what happened
}

func (e *NodeError) Error() string {
	var parts []string
	if e.Node != "" {
		parts = append(parts, "node "+e.Node)
	}
	if e.Err != nil {
		parts = append(parts, e.Err.Error())
	} else {
		parts = append(parts, e.Reason.Info().Meaning)
	}
	if e.Text != "" {
		parts = append(parts, e.Text[:min(len(e.Text), record.MaxTailLine)])
	}
	return strings.Join(parts, ": ")
}

func (e *NodeError) Unwrap() error { return e.Err }

// standardNodes are the nodes every scenario has.
var standardNodes = []string{"A", "B"}

// Bounds of what a scenario may declare.
const (
	MaxNodes    = 16 // a device's discovery table keeps 16 peers
	maxNodeName = 8  // leaves room for a prefix in a network interface's 15 bytes
)

var nodeName = regexp.MustCompile(`^[A-Z][A-Z0-9]*$`)

// ValidNode reports whether name can be a node's name: a capital letter, then
// capital letters and digits, eight at most.
func ValidNode(name string) bool {
	return len(name) <= maxNodeName && nodeName.MatchString(name)
}

// NodeAddress returns the address of the node with the given index, from 0, in the
// order A, B, declared nodes: 10.42.0.10 and upwards.
func NodeAddress(index int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 42, 0, byte(10 + index)})
}

// DeviceID returns the device id of a node: "node-a" for A.
func DeviceID(name string) string {
	return fmt.Sprintf("node-%s", strings.ToLower(name))
}
