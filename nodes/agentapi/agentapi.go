// Package agentapi names what the rig and a machine's agent say to each other
// over the machine's virtio-serial ports, and before there is anybody to talk to.
//
// The control port carries one connection at a time. On it streams are multiplexed
// with yamux, the rig being the client, which opens them: plainly, since a wire that
// the rig's own process made has nobody in between, and since a handshake of
// SSH costs an emulated machine more than starting all its services. A stream
// begins with one line, a JSON Request; the agent answers with one line, a JSON
// Reply. What follows depends on the method: nothing, frames, or a file. The journal port carries entries of package journal.
//
// A clone of a saved machine is given its identity before either: see Handover.
//
// The package owns names, types and their forms. It opens nothing.
package agentapi

import (
	"encoding/json"
	"io/fs"
	"time"

	"github.com/hashicorp/yamux"
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
	// EndedText stands between a service's name and how it has ended: "dsoftbusd ended:
	// exit status 1". The line is on TroubleStream when that was a failure which no
	// signal of the rig has asked for.
	EndedText     = " ended: "
	TroubleStream = "stderr"
	// IdleLine says that the agent waits for what its clones will be handed: a
	// machine that is saved then is like any other.
	IdleLine = "waiting to be somebody"
	// ConfiguredLine begins the line with which a clone says that it has its
	// identity. The time that took follows, in milliseconds: "configured in 31 ms".
	ConfiguredLine = "configured in "
	// RefusedLine begins the line with which a clone says why it has none.
	RefusedLine = "not configured: "
)

// Methods, with the types of request and reply, and what follows the reply.
const (
	MethodInfo      = "info"      // nothing -> Info
	MethodConfigure = "configure" // Identity -> nothing
	MethodStart     = "start"     // Start -> nothing
	MethodStop      = "stop"      // Stop -> nothing
	MethodKill      = "kill"      // Kill -> nothing
	MethodExec      = "exec"      // Exec -> nothing; then frames, the last one FrameExit
	MethodPut       = "put"       // Put -> nothing; then the rig sends frames, the last one FrameEnd, and gets a second Reply
	MethodGet       = "get"       // Get -> Got; then frames, the last one FrameEnd
	MethodShell     = "shell"     // Shell -> nothing; then frames both ways, the agent's last one FrameExit
	MethodDial      = "dial"      // Dial -> nothing; then frames both ways, each way's last one FrameEnd
	MethodStacks    = "stacks"    // Stacks -> nothing; then frames, the last one FrameEnd
	MethodServices  = "services"  // nothing -> []Service
	MethodRestart   = "restart"   // Restart -> nothing
	MethodCoverage  = "coverage"  // nothing -> Coverage; only of a machine whose programs count

	MethodImpair     = "impair"     // Impairment -> ImpairmentStatistics, of the one that this replaces
	MethodImpairment = "impairment" // nothing -> ImpairmentStatistics, of the one in force
	MethodClock      = "clock"      // Step -> Stepped
)

// Request begins a stream.
type Request struct {
	Method string          `json:"method"`
	Args   json.RawMessage `json:"args,omitempty"`
}

// MaxRequest bounds one request's line, in bytes.
const MaxRequest = 1 << 20

// Reply answers a request: Error is empty when it worked.
type Reply struct {
	Error string `json:"error,omitempty"`
	// NotStarted says that the program of the request never ran: it could not be
	// started, or there is no service of that name that ever was.
	NotStarted bool            `json:"not_started,omitempty"`
	Result     json.RawMessage `json:"result,omitempty"`
}

// Exec is one program to run to its end, without input. Closing the stream kills it.
type Exec struct {
	// Argv is the program, looked up in the agent's PATH, and its arguments.
	Argv []string `json:"argv"`
}

// Shell is one program to run on a terminal of its own, whose session it leads. The rig
// sends FrameStdin and FrameSize, the agent FrameStdout. When the rig closes the stream,
// or the program ends, the terminal hangs up: what is left of the session gets SIGHUP,
// and a moment later SIGKILL.
type Shell struct {
	Argv []string `json:"argv,omitempty"` // none: the machine's shell
	Term string   `json:"term"`           // what kind of terminal it is: "xterm-256color"
	Size Size     `json:"size"`
}

// Size is a terminal's, in characters.
type Size struct {
	Rows uint16 `json:"rows"`
	Cols uint16 `json:"cols"`
}

// Dial is a TCP port of the machine's own loopback address to connect to. What is
// received comes as FrameBytes, and FrameEnd when the other side sends no more: in its
// Reply is why, when that was no orderly end. The rig sends in the same way. When it
// closes the stream the connection is closed.
type Dial struct {
	Port uint16 `json:"port"`
}

// Stacks asks a running program of the rig's for its goroutines; it runs on undisturbed.
// They come as text, in FrameBytes.
type Stacks struct {
	Program string `json:"program"` // the process's name; AgentUnit: the agent itself
}

// Service is a program that the agent started.
type Service struct {
	Name    string   `json:"name"`
	Program string   `json:"program"` // what was started: a path, or a name in the agent's PATH
	Args    []string `json:"args"`
	PID     int      `json:"pid"`
	// Supervised is false for a program that MethodExec runs; it is listed while it does.
	Supervised bool   `json:"supervised"`
	Running    bool   `json:"running"`
	Ended      string `json:"ended,omitempty"` // how, when it does not run any more: "exit status 1", "signal: killed"
}

// Restart starts a service again, with the arguments it had last. One that runs is
// stopped first, as by Stop.
type Restart struct {
	Program string `json:"program"` // the service's name
	// File is the program to start, of the service's name; none: the one it had.
	File   string        `json:"file,omitempty"`
	Within time.Duration `json:"within_ns"`
}

// CoverageDir is where the programs of a machine that count which of their statements run write that down: GOCOVERDIR. It is a folder of such a machine's
// image, in memory as all of it.
const CoverageDir = "/run/coverage"

// Coverage says what has run in a machine so far: files of CoverageDir, each of them whole. A program that runs was asked to write its own before.
type Coverage struct {
	Files []string `json:"files"` // their names, to be read with MethodGet
	// Missing says of whom there is less than there could be, and why.
	Missing []string `json:"missing,omitempty"`
}

// Put writes a file, which appears whole or not at all, and makes the folders above
// it.
type Put struct {
	Path string      `json:"path"`
	Mode fs.FileMode `json:"mode"` // permission bits
}

// Get reads a file, of any kind that can be read to an end.
type Get struct {
	Path string `json:"path"`
}

// Got is the answer to a Get, in front of the file's content.
type Got struct {
	Mode fs.FileMode `json:"mode"` // permission bits
}

// Exit says how a program ended.
type Exit struct {
	// NotStarted says why the program could not be started; it has no status then.
	NotStarted string `json:"not_started,omitempty"`

	Status     int    `json:"status"`      // exit status; 128 + number when a signal ended it
	JournalSeq uint64 `json:"journal_seq"` // every line it printed has this journal number or a lower one
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

	// Stopped leaves the program stopped before its first instruction, as
	// SIGSTOP does, for a debugger to attach. SIGCONT lets it run.
	Stopped bool `json:"stopped,omitempty"`

	// Tool says that the program helps a person, and is none of what is tested: its end
	// is no trouble.
	Tool bool `json:"tool,omitempty"`
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

// Mux returns how both sides multiplex. What a machine does not take, and when that
// is too much, is its caller's to decide, who has a context for every wait: so
// nothing times out by itself, and a machine that is paused stays connected. log
// gets what was wrong with the connection.
func Mux(log yamux.Logger) *yamux.Config {
	const never = 1000 * time.Hour
	c := yamux.DefaultConfig()
	c.EnableKeepAlive = false
	c.ConnectionWriteTimeout = never
	c.StreamOpenTimeout, c.StreamCloseTimeout = 0, 0
	c.Logger, c.LogOutput = log, nil
	return c
}
