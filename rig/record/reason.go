package record

// Reason is the class of a failure: why a scenario did not pass, in one word that is the same in the terminal, in summary.json
// and in junit.xml. The classes are listed, with what each means and what to do next, by Reasons.
type Reason string

const (
	BootTimeout         Reason = "boot-timeout"
	AgentLost           Reason = "agent-lost"
	MarkerTimeout       Reason = "marker-timeout"
	MarkerFail          Reason = "marker-fail"
	MarkerUnexpected    Reason = "marker-unexpected"
	MarkerInterval      Reason = "marker-interval"
	NodeExited          Reason = "node-exited"
	KernelPanic         Reason = "kernel-panic"
	GoPanic             Reason = "go-panic"
	DiscoveryNoAnnounce Reason = "discovery-no-announce"
	SessionNoSyn        Reason = "session-no-syn"
	SessionNoSynAck     Reason = "session-no-synack"
	SessionReset        Reason = "session-reset"
	HandshakeStalled    Reason = "handshake-stalled"
	SessionDenied       Reason = "session-denied"
	NotStarted          Reason = "not-started"
	ExecStatus          Reason = "exec-status"
	ExecTimeout         Reason = "exec-timeout"
	ContentMismatch     Reason = "content-mismatch"
	OverBudget          Reason = "budget"
	StepFailed          Reason = "step-failed"
	NeverTouched        Reason = "never-touched"
	WorkerDied          Reason = "worker-died"
	ColdDiffers         Reason = "cold-differs"
	RunTimeout          Reason = "run-timeout"
	HostUnsupported     Reason = "host-unsupported"
	ImageFailed         Reason = "image-failed"
	Invalid             Reason = "invalid"
	Stopped             Reason = "interrupted"
	Internal            Reason = "internal"
)

// A ReasonInfo describes one Reason for people.
type ReasonInfo struct {
	Reason  Reason
	Result  Result // the verdict of a scenario that ends for this reason
	Meaning string // what happened, half a sentence
	Next    string // what to do now, a sentence
}

// reasons is in the order in which a scenario can meet them: host, images, script, machines, steps, rig.
var reasons = []ReasonInfo{
	{HostUnsupported, Broken, "this host lacks something the rig needs",
		"Run `rig doctor`; it names what to install or change."},
	{ImageFailed, Broken, "the kernel or the userland image could not be built",
		"Run `rig build` alone and fix what its last lines name."},
	{Invalid, Failed, "the scenario is not well formed, so nothing was started",
		"Correct the line that is named; `rig check` reads scenarios without starting machines."},
	{BootTimeout, Broken, "a machine was not ready before its deadline",
		"Read the end of the node's console.log: it shows how far the boot came, or that the host was merely slow."},
	{AgentLost, Broken, "the machine's control channel ended or went silent while the machine still ran",
		"Read the node's journal.jsonl for the agent's last lines, and console.log for out-of-memory kills."},
	{NodeExited, Broken, "a QEMU process ended by itself",
		"Read the node's qemu.log; qemu.cmd repeats the start by hand."},
	{KernelPanic, Failed, "a node's kernel panicked or reported an oops",
		"Read the node's console.log from the line that is named; `allow` accepts a line that a scenario provokes."},
	{GoPanic, Failed, "a program on a node panicked",
		"Read the stack in the node's journal.jsonl."},
	{MarkerFail, Failed, "a node printed a line that says FAIL",
		"Read the node's journal.jsonl around that line; `allow` accepts a line that a scenario provokes."},
	{MarkerTimeout, Failed, "an awaited line did not come before its deadline",
		"Compare the awaited pattern with the node's last lines; -within on the step gives it longer."},
	{MarkerUnexpected, Failed, "a line came that must not come",
		"Read what the node did just before the line in its journal.jsonl."},
	{MarkerInterval, Failed, "two lines of a node came closer together or further apart, by the node's own clock, than they may",
		"Read what the node did between the two lines in its journal.jsonl; mono_ns there is the clock that counts."},
	{DiscoveryNoAnnounce, Failed, "a node had no session, for want of its peer's announces",
		"Look for `dsoftbusd: ready` in the peer's journal.jsonl, and for what keeps its announces from arriving: cable, block, interface."},
	{SessionNoSyn, Failed, "a node had no session, and the one of the pair that dials has sent no SYN",
		"Read the dialling node's journal.jsonl: does its dsoftbusd run, and what does it say of dialling? Where it asked for the peer's address in vain, look for what keeps frames from crossing: cable, partition, a peer that stands still."},
	{SessionNoSynAck, Failed, "a node had no session: connections were asked for, and no answer arrived",
		"See with `rig decode` which of SYN and SYN-ACK was sent, and look for what keeps it from arriving: block, cable, a peer that stands still."},
	{SessionReset, Failed, "a node had no session: its connections were refused or cut",
		"Read the peer's journal.jsonl: does its dsoftbusd run and listen, and why did it end?"},
	{HandshakeStalled, Failed, "a node had no session: connections were made, and no handshake came to its end",
		"See with `rig decode` how far the handshakes came, and read both journals from there on."},
	{SessionDenied, Failed, "a node had no session: one of the two did not let the other in",
		"Compare keys and pairing lists of both nodes (/etc/dsoftbus) with what the line in the evidence says."},
	{NotStarted, Failed, "a step names a program that could not be started, or a service that was never started, so nothing of it happened",
		"Correct the program's name or path in the step; a program that a scenario brings along needs an `exec NODE chmod 755 PATH` first."},
	{ExecStatus, Failed, "a program ended with another exit status than the step asks for",
		"Read the step's stdout and stderr in events.jsonl."},
	{ExecTimeout, Failed, "a program had not ended by its deadline, and was stopped",
		"Read what it printed until then in events.jsonl."},
	{ContentMismatch, Failed, "an output or a file does not have the content that the step asks for",
		"Read the step's message; files are in the scenario's work folder, outputs in events.jsonl."},
	{OverBudget, Failed, "the steps inside a budget took longer than it allows",
		"Compare the durations of the steps in summary.json with those of a run that passed."},
	{StepFailed, Failed, "a step of the script failed",
		"Read the step's message; its output is in events.jsonl."},
	{NeverTouched, Unproven, "every step held, but a fault that was asked for never touched a frame or a machine",
		"Have something happen while the fault is in force, or say -maybe where it need not touch anything."},
	{WorkerDied, Broken, "the process that ran the scenario ended without a verdict",
		"Look for out-of-memory kills in the host's kernel log; the scenario's events.jsonl shows how far it came."},
	{ColdDiffers, Broken, "the scenario went otherwise on booted machines than on clones",
		"Compare events.jsonl of the two playings, NAME and NAME@cold; a clone must not be told from a machine that booted."},
	{RunTimeout, Failed, "the time of the whole run was over",
		"Give the run longer with -timeout, or have fewer scenarios in it with -shard."},
	{Stopped, Interrupted, "the run was stopped before the scenario ended",
		"Run it again; what was recorded until then is in the scenario's folder."},
	{Internal, Broken, "the rig itself went wrong",
		"Keep the run's folder: it is what a report of the fault needs."},
}

// Reasons returns the table of all reason classes.
func Reasons() []ReasonInfo {
	return append([]ReasonInfo(nil), reasons...)
}

// Known reports whether r is in the table.
func (r Reason) Known() bool {
	for _, info := range reasons {
		if info.Reason == r {
			return true
		}
	}
	return false
}

// Info returns r's entry of the table. A reason that is not in it (a record of a later version, say) gets that of Internal under
// its own name.
func (r Reason) Info() ReasonInfo {
	var internal ReasonInfo
	for _, info := range reasons {
		if info.Reason == r {
			return info
		}
		if info.Reason == Internal {
			internal = info
		}
	}
	internal.Reason = r
	return internal
}
