// Package agentapi names what the rig and a machine's agent say to each other
// over the machine's virtio-serial ports.
//
// The control port carries one connection at a time. It begins with opening calls,
// any number of them: one line with a JSON Opening, answered by one line with a JSON
// Reply. They cost a machine next to nothing, where a handshake of SSH costs an
// emulated one more than all the rest of its start. The first line that is no
// Opening is SSH's own, and from there on the connection is SSH (RFC 4254). On it
// the agent serves the standard "session" channel with the "sftp" subsystem and with
// requests of type ExecRequest, and channels of type CallChannel: one call each,
// the method's name as extra data, a JSON request up to the end of input, and a
// JSON Reply back. The journal port carries entries of package journal.
//
// The package owns names and types. It opens nothing.
package agentapi

import (
	"encoding/json"
	"io/fs"
	"time"
)

// Names of the virtio-serial ports.
const (
	ControlPort = "rig.control"
	JournalPort = "rig.journal"
)

// What the agent itself writes to the journal.
const (
	// AgentUnit is the unit of its entries.
	AgentUnit = "agent"
	// IdleLine says that the agent waits for the rig to connect: a machine that
	// is saved then is like any other.
	IdleLine = "waiting for the rig"
)

// Names on the SSH connection. The suffix keeps them apart from those the SSH
// specifications may define (RFC 4250, section 4.6.1).
const (
	// CallChannel is the channel type of a call.
	CallChannel = "call@dsoftbus-rig"
	// ExecRequest runs a program in a session channel. Its payload is a JSON
	// Exec. Standard input, output and error and "exit-status" are as with
	// SSH's own "exec".
	ExecRequest = "exec@dsoftbus-rig"
	// JournalSeqRequest comes from the agent before "exit-status": every line
	// of the program has a journal number at or below this one. Its payload is
	// a JSON uint64.
	JournalSeqRequest = "journal-seq@dsoftbus-rig"
)

// Methods of calls, with the types of request and reply.
const (
	MethodInfo      = "info"      // nothing -> Info
	MethodConfigure = "configure" // Configure -> nothing
	MethodStart     = "start"     // Start -> nothing
	MethodStop      = "stop"      // Stop -> nothing
	MethodKill      = "kill"      // Kill -> nothing
)

// Opening is a call before SSH has begun.
type Opening struct {
	Method  string          `json:"method"`
	Request json.RawMessage `json:"request,omitempty"`
}

// MaxRequest bounds one call's request, in bytes.
const MaxRequest = 1 << 20

// Reply answers a call: Error is empty when it worked.
type Reply struct {
	Error  string          `json:"error,omitempty"`
	Result json.RawMessage `json:"result,omitempty"`
}

// Exec is one program to run to its end.
type Exec struct {
	// Argv is the program, looked up in the agent's PATH, and its arguments.
	Argv []string `json:"argv"`
}

// A File is one to be made in the machine, with the folders above it.
type File struct {
	Path    string      `json:"path"` // "/etc/dsoftbus/device.json"
	Mode    fs.FileMode `json:"mode"` // permission bits
	Content []byte      `json:"content"`
}

// Configure gives a machine its identity. Until then every machine is the same,
// which is what lets one saved machine serve as every node.
type Configure struct {
	Hostname string    `json:"hostname"`
	MAC      string    `json:"mac"`     // "52:54:00:...", of the only network card
	Address  string    `json:"address"` // "10.42.0.10/24"
	Clock    time.Time `json:"clock"`   // the wall clock to set
	Entropy  []byte    `json:"entropy"` // credited to the kernel before any key is made; at least 32 bytes
	Files    []File    `json:"files"`   // what makes the machine this node: its identity, its fixtures
}

// Info says what machine answered.
type Info struct {
	KernelRelease string        `json:"kernel_release"`
	Uptime        time.Duration `json:"uptime_ns"` // CLOCK_MONOTONIC
	Modules       int           `json:"modules"`   // kernel modules loaded at boot
}

// Start runs a supervised program. Its lines go to the journal under its name.
type Start struct {
	Program string   `json:"program"`
	Args    []string `json:"args"`
}

// Stop ends a supervised program with SIGTERM and waits for its end.
type Stop struct {
	Program string        `json:"program"`
	Within  time.Duration `json:"within_ns"`
}

// Kill sends a signal to a supervised program. For SIGKILL the reply comes when
// the program is gone.
type Kill struct {
	Program string `json:"program"`
	Signal  string `json:"signal"` // "SIGKILL", "KILL" or "9"
}
