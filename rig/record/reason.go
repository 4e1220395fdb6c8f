package record

import "slices"

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
	KernelOops          Reason = "kernel-oops"
	KernelBug           Reason = "kernel-bug"
	KernelWarning       Reason = "kernel-warning"
	KASAN               Reason = "kernel-kasan"
	KMSAN               Reason = "kernel-kmsan"
	KCSAN               Reason = "kernel-kcsan"
	KFENCE              Reason = "kernel-kfence"
	UBSAN               Reason = "kernel-ubsan"
	Lockdep             Reason = "kernel-lockdep"
	AtomicSleep         Reason = "kernel-atomic-sleep"
	RefCount            Reason = "kernel-refcount"
	ListCorruption      Reason = "kernel-list-corruption"
	SoftLockup          Reason = "kernel-soft-lockup"
	HardLockup          Reason = "kernel-hard-lockup"
	HungTask            Reason = "kernel-hung-task"
	RCUStall            Reason = "kernel-rcu-stall"
	WorkqueueStall      Reason = "kernel-workqueue-stall"
	OutOfMemory         Reason = "kernel-out-of-memory"
	DeviceLeak          Reason = "kernel-device-leak"
	IOError             Reason = "kernel-io-error"
	ProgramFault        Reason = "program-fault"
	GoPanic             Reason = "go-panic"
	DataRace            Reason = "data-race"
	Sanitizer           Reason = "program-sanitizer"
	ProgramAbort        Reason = "program-abort"
	ServiceEnded        Reason = "service-ended"
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
	KeyLeaked           Reason = "key-leaked"
	LogIncomplete       Reason = "log-incomplete"
	PartMissing         Reason = "part-missing"
	HostUnsupported     Reason = "host-unsupported"
	HostExhausted       Reason = "host-exhausted"
	ImageFailed         Reason = "image-failed"
	Invalid             Reason = "invalid"
	Stopped             Reason = "interrupted"
	Internal            Reason = "internal"
)

// allowed is how to go on where a report of a node is no news.
const allowed = "`allow` accepts a line that a scenario provokes."

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
	{HostExhausted, Broken, "this host ran out of open files, disk space, memory or processes",
		"Free what the message names, or raise its limit (`ulimit -n`, `df`, `free`), or play fewer scenarios at a time with -j."},
	{ImageFailed, Broken, "the kernel or the userland image could not be built",
		"Run `rig build` alone and fix what its last lines name."},
	{Invalid, Failed, "the scenario is not well formed, so nothing was started",
		"Correct the line that is named; `rig check` reads scenarios without starting machines."},
	{BootTimeout, Broken, "a machine was not ready before its deadline",
		"Read the end of the node's console.log: it shows how far the boot came, or that the host was merely slow."},
	{AgentLost, Broken, "the machine's control channel ended or went silent while the machine still ran",
		"Read the node's journal.jsonl for the agent's last lines, and console.log for out-of-memory kills."},
	{NodeExited, Broken, "a QEMU process ended by itself",
		"Read the node's qemu.log; qemu.cmd repeats the start by hand. One that was killed may have been ended by the host for want of memory: see its kernel's log."},
	{KernelPanic, Failed, "the kernel panicked",
		"Read the node's console.log from the line that is named; `rig stacks` reads panic.core, the machine's memory. " + allowed},
	{KernelOops, Failed, "the kernel did what its processor refuses (an oops)",
		"Read registers and call trace in the node's console.log; `rig stacks` reads panic.core, the machine's memory. " + allowed},
	{KernelBug, Failed, "the kernel found itself in a state that it says cannot be (BUG)",
		"Read the call trace in the node's console.log; `rig stacks` reads panic.core, the machine's memory. " + allowed},
	{KernelWarning, Failed, "the kernel warned of a fault of its own (WARNING)",
		"Read the call trace in the node's console.log: its first functions say which part of the kernel complains. " + allowed},
	{KASAN, Failed, "the kernel used memory that is not its to use (KASAN)",
		"Read the report in the node's console.log: where the memory was used, allocated and freed. " + allowed},
	{KMSAN, Failed, "the kernel used memory that nothing was written to (KMSAN)",
		"Read the report in the node's console.log: where the value was used, and where its memory came from. " + allowed},
	{KCSAN, Failed, "two processors of the kernel used one variable at once (KCSAN)",
		"Read both call traces in the node's console.log. " + allowed},
	{KFENCE, Failed, "the kernel used memory that is not its to use (KFENCE)",
		"Read the report in the node's console.log: where the memory was used, allocated and freed. " + allowed},
	{UBSAN, Failed, "the kernel computed what its language does not define (UBSAN)",
		"Read the report in the node's console.log: it names file and line. " + allowed},
	{Lockdep, Failed, "the kernel took or released locks in an order that can deadlock (lockdep)",
		"Read the report in the node's console.log: it lists the locks and who holds them. " + allowed},
	{AtomicSleep, Failed, "the kernel slept where it must not",
		"Read the call trace in the node's console.log: it shows who slept and what forbade it. " + allowed},
	{RefCount, Failed, "the kernel counted references of an object wrong",
		"Read the call trace in the node's console.log: it shows who took or gave back one too many. " + allowed},
	{ListCorruption, Failed, "the kernel found a list of its own damaged",
		"Read the call trace in the node's console.log: somebody freed or added an entry twice. " + allowed},
	{SoftLockup, Failed, "the kernel let no program run for seconds (soft lockup)",
		"Read the call trace in the node's console.log: it shows what kept the processor. A host that stood still for seconds has the same effect. " + allowed},
	{HardLockup, Failed, "the kernel took no interrupt for seconds (hard lockup)",
		"Read the call trace in the node's console.log: it shows what kept the processor. A host that stood still for seconds has the same effect. " + allowed},
	{HungTask, Failed, "a program hung inside the kernel",
		"Read the program's call trace in the node's console.log: it shows what it waits for. " + allowed},
	{RCUStall, Failed, "the kernel waited in vain for a processor to pass a quiet moment (RCU stall)",
		"Read the call trace in the node's console.log: it shows what kept the processor. A host that stood still for seconds has the same effect. " + allowed},
	{WorkqueueStall, Failed, "the kernel's deferred work did not get done (workqueue lockup)",
		"Read the list of busy workers in the node's console.log. " + allowed},
	{OutOfMemory, Failed, "the machine ran out of memory",
		"Read the table of programs and their memory in the node's console.log; the named one may be the victim, not the cause. " + allowed},
	{DeviceLeak, Failed, "the kernel could not get rid of a network device",
		"Look for what still uses the device: the message repeats with the number of references. " + allowed},
	{IOError, Failed, "a device of the machine failed to read or write",
		"Read the lines before it in the node's console.log, and the node's qemu.log. " + allowed},
	{ProgramFault, Failed, "a program died of a fault: it used memory or an instruction that it must not",
		"Look the address up in the program (`addr2line -e PROGRAM ADDRESS`, the value behind `ip`), less the start of the mapping in brackets. " + allowed},
	{GoPanic, Failed, "a Go program panicked, or its runtime gave up",
		"Read the stack in the node's journal.jsonl. " + allowed},
	{DataRace, Failed, "a program used one variable from two threads at once (data race)",
		"Read both stacks in the node's journal.jsonl. " + allowed},
	{Sanitizer, Failed, "a program's sanitizer reported a fault",
		"Read the report in the node's journal.jsonl. " + allowed},
	{ProgramAbort, Failed, "a program ended itself, because something in it is broken",
		"Read the program's last lines in the node's journal.jsonl. " + allowed},
	{ServiceEnded, Failed, "a service ended by itself, with a failure",
		"Read what it printed last in the node's journal.jsonl. " + allowed},
	{MarkerFail, Failed, "a program printed a line that says FAIL",
		"Read the node's journal.jsonl around that line. " + allowed},
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
	{KeyLeaked, Failed, "a secret key is in what a node printed",
		"Find what prints it at the place that is named, and do not publish this record."},
	{LogIncomplete, Broken, "not all that a node printed could be looked at, so nothing can be said about lines that must not come",
		"Have the node print less, or look earlier, where the message names a limit; else look for what keeps the node's lines from arriving."},
	{NeverTouched, Unproven, "every step held, but a fault that was asked for never touched a frame or a machine, or a line that is allowed never came",
		"Have something happen while the fault is in force, or say -maybe where that need not be."},
	{WorkerDied, Broken, "the process that ran the scenario ended without a verdict",
		"Look for out-of-memory kills in the host's kernel log; the scenario's events.jsonl shows how far it came."},
	{ColdDiffers, Broken, "the scenario went otherwise on booted machines than on clones",
		"Compare events.jsonl of the two playings, NAME and NAME@cold; a clone must not be told from a machine that booted."},
	{RunTimeout, Failed, "the time of the whole run was over",
		"Give the run longer with -timeout, or have fewer scenarios in it with -shard."},
	{PartMissing, Broken, "a part of the run is missing",
		"Look for the host that has left no record, and join the records of all parts (`rig run -shard`) of one selection."},
	{Stopped, Interrupted, "the run was stopped before the scenario ended",
		"Run it again; what was recorded until then is in the scenario's folder."},
	{Internal, Broken, "the rig itself went wrong",
		"Keep the run's folder: it is what a report of the fault needs."},
}

// Reasons returns the table of all reason classes.
func Reasons() []ReasonInfo {
	return append([]ReasonInfo(nil), reasons...)
}

// reported are the classes of what kernels and programs say themselves: the failure's message has the line.
var reported = []Reason{
	KernelPanic, KernelOops, KernelBug, KernelWarning, KASAN, KMSAN, KCSAN, KFENCE, UBSAN, Lockdep, AtomicSleep, RefCount, ListCorruption,
	SoftLockup, HardLockup, HungTask, RCUStall, WorkqueueStall, OutOfMemory, DeviceLeak, IOError, ProgramFault, GoPanic, DataRace, Sanitizer, ProgramAbort, MarkerFail,
}

// Reported reports whether r is the class of a report that a node's kernel or a program on it printed.
func (r Reason) Reported() bool { return slices.Contains(reported, r) }

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
