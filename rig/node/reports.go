package node

import (
	"regexp"
	"slices"
	"strings"
	"time"

	"dsoftbus-rig/nodes/agentapi"
	"dsoftbus-rig/rig/console"
	"dsoftbus-rig/rig/record"
)

// A report is a form of lines in which a kernel or a program says that something
// in it is broken. Such a line ends a run, unless the scenario allows it. The
// tables are in docs/reports.md, too, which a test keeps equal.
type report struct {
	class  record.Reason
	form   *regexp.Regexp
	begins bool   // the form is what a message begins with, not a text anywhere in a line
	shown  string // the form as docs show it
	source string // what prints it
}

// stamp is what printk puts in front of a message, which may follow text of another
// writer that had no newline. A caller (a task or a processor) is there only with
// CONFIG_PRINTK_CALLER.
var stamp = regexp.MustCompile(`\[ *\d+\.\d+\](?:\[ *[TC]\d+\])? ?`)

// bare is what stands in front of a message on a console without time stamps: a level
// on some, a caller on others.
var bare = regexp.MustCompile(`^(?:<\d{1,3}>)?(?:\[ *[TC]\d+\] )?`)

// messages returns what each message of the kernel in a line begins with: at the
// line's start, and behind each time stamp.
func messages(line string) []string {
	all := []string{line[len(bare.FindString(line)):]}
	if strings.IndexByte(line, '[') < 0 {
		return all
	}
	for _, at := range stamp.FindAllStringIndex(line, -1) {
		all = append(all, line[at[1]:])
	}
	return all
}

// message makes a report of what a kernel's message begins with.
func message(class record.Reason, form, source string) report {
	return report{class, regexp.MustCompile(`^(?:` + form + `)`), true, form, source}
}

// anywhere makes a report of a text that nothing else prints, wherever it is in a
// line: consoles without time stamps do not show where a message begins. It begins
// with a fixed text, by which it is looked for quickly.
func anywhere(class record.Reason, form, source string) report {
	return report{class, regexp.MustCompile(form), false, "… " + form, source}
}

// matches reports whether a line of which these are the messages has the report.
func (r *report) matches(line string, messages []string) bool {
	if !r.begins {
		return r.form.MatchString(line)
	}
	return slices.ContainsFunc(messages, r.form.MatchString)
}

// kernelReports are the kernel's, on the console. Of several that match a line the
// first one counts, so that what says more goes before.
var kernelReports = []report{
	anywhere(record.KernelPanic, `Kernel panic - not syncing`, "panic, kernel/panic.c"),
	anywhere(record.KASAN, `BUG: KASAN: `, "print_error_description, mm/kasan/report.c"),
	anywhere(record.KMSAN, `BUG: KMSAN: `, "kmsan_report, mm/kmsan/report.c"),
	anywhere(record.KCSAN, `BUG: KCSAN: `, "print_report, kernel/kcsan/report.c"),
	anywhere(record.KFENCE, `BUG: KFENCE: `, "kfence_report_error, mm/kfence/report.c"),
	message(record.UBSAN, `UBSAN: `, "ubsan_prologue, lib/ubsan.c"),
	anywhere(record.SoftLockup, `BUG: soft lockup - CPU#\d+ stuck for `, "watchdog_timer_fn, kernel/watchdog.c"),
	anywhere(record.HardLockup, `Watchdog detected hard LOCKUP on cpu ?\d+`,
		"watchdog_hardlockup_check, kernel/watchdog.c (kernel/watchdog_hld.c before 6.5)"),
	anywhere(record.WorkqueueStall, `BUG: workqueue lockup - pool`, "wq_watchdog_timer_fn, kernel/workqueue.c"),
	anywhere(record.AtomicSleep, `BUG: scheduling while atomic: `, "__schedule_bug, kernel/sched/core.c"),
	anywhere(record.AtomicSleep, `BUG: sleeping function called from invalid context at `,
		"__might_resched, kernel/sched/core.c"),
	message(record.AtomicSleep, `BUG: using \S+ in preemptible `, "check_preemption_disabled, lib/smp_processor_id.c"),
	message(record.Lockdep, `(?:\[ )?(?:WARNING|INFO|BUG): (?:possible (?:circular|recursive|irq) lock|possible circular dep|inconsistent lock state|suspicious RCU usage|bad unlock balance|`+
		`bad contention|held lock freed|lock held when returning to user space|nested lock was not taken|.*(?:unsafe|safe) lock order detected|.* still has locks held|Invalid wait context|`+
		`MAX_LOCK|MAX_STACK_TRACE|key \S+ (?:not in|has not been)|trying to register non-static key|workqueue leaked lock)`,
		"print_circular_bug, print_usage_bug, lockdep_rcu_suspicious, print_unlock_imbalance_bug and others, kernel/locking/lockdep.c"),
	message(record.RefCount, `refcount_t: `, "refcount_warn_saturate, lib/refcount.c"),
	message(record.RefCount, `WARNING: (?:CPU: \d+ PID: \d+ at )?lib/refcount\.c`,
		"the same, where its first line was lost"),
	message(record.ListCorruption, `(?:list_add|list_del|slist|hlist|plist)\w*(?: double add| corruption)`,
		"__list_add_valid, __list_del_entry_valid, lib/list_debug.c"),
	message(record.ListCorruption, `kernel BUG at lib/list_debug\.c`, "the same, where its first line was lost"),
	anywhere(record.KernelOops, `BUG: (?:unable to handle |[Uu]nable to handle kernel |kernel NULL pointer dereference|stack guard page was hit|(?:TASK|IRQ|NMI|DB|DF|MC) stack guard page)`,
		"show_fault_oops, arch/x86/mm/fault.c; handle_stack_overflow, arch/x86/kernel/traps.c"),
	message(record.KernelOops, `Unable to handle kernel `, "die_kernel_fault, arch/arm64/mm/fault.c"),
	message(record.KernelOops, `(?:traps: )?PANIC: double fault|traps: Missing ENDBR|kernel stack overflow`,
		"exc_double_fault, exc_control_protection, arch/x86/kernel/traps.c"),
	message(record.KernelOops, `(?:Oops|Internal error|Bad pagetable|general protection fault|divide error|invalid opcode|stack segment|double fault|segment not present|invalid TSS|`+
		`alignment check|bounds|overflow|int3|control protection fault)(?::|, )`,
		"the names of traps that die gets, arch/x86/kernel/traps.c and dumpstack.c"),
	anywhere(record.KernelOops, `: [0-9a-f]{4} \[#\d+\](?: |$)`,
		"__die_header, arch/x86/kernel/dumpstack.c: whatever the trap is called"),
	message(record.KernelBug, `[Kk]ernel BUG `, "report_bug, lib/bug.c"),
	message(record.KernelBug, `BUG \S+ (?:\(.*\))?: `, "slab_bug, mm/slub.c"),
	message(record.HungTask, `(?:INFO: )?task .* blocked (?:for|in I/O wait for) more than \d+ seconds`,
		"check_hung_task, kernel/hung_task.c"),
	message(record.RCUStall, `(?:rcu: )?(?:INFO: )?(?:rcu|srcu)\w* (?:self-)?detected (?:expedited )?stalls?`,
		"print_cpu_stall, print_other_cpu_stall, kernel/rcu/tree_stall.h; synchronize_rcu_expedited_wait, kernel/rcu/tree_exp.h; check_all_holdout_tasks, kernel/rcu/tasks.h"),
	message(record.RCUStall, `(?:rcu: )?\w+ kthread (?:timer wakeup didn't happen|starved) for `,
		"rcu_check_gp_kthread_starvation, kernel/rcu/tree_stall.h"),
	message(record.OutOfMemory, `(?:Memory cgroup )?[Oo]ut of memory(?: \(.*\))?: Kill`,
		"__oom_kill_process, mm/oom_kill.c, global and of a cgroup"),
	message(record.OutOfMemory, `Out of memory and no killable processes|System is deadlocked on memory|.{1,16}: page allocation failure: order:`,
		"out_of_memory, mm/oom_kill.c; warn_alloc, mm/page_alloc.c"),
	message(record.DeviceLeak, `unregister_netdevice: waiting for \S+ to become free`,
		"netdev_wait_allrefs_any, net/core/dev.c"),
	message(record.IOError, `(?:\w+: )?(?:critical \w+|I/O|protection|timeout|recoverable transport|reservation conflict) error, dev \S+, sector `,
		"blk_print_req_error, block/blk-mq.c"),
	message(record.IOError, `Buffer I/O error on dev|(?:\w+-fs|\w+FS) error \(device |XFS \(\S+\): .*[Cc]orruption|SQUASHFS error: `,
		"buffer_io_error, fs/buffer.c; the file systems"),
	message(record.ProgramFault, `.{1,16}\[\d+\]: segfault at `, "show_signal_msg, arch/x86/mm/fault.c"),
	message(record.ProgramFault, `(?:traps: )?.{1,16}\[\d+\]:? (?:trap )?(?:general protection|invalid opcode|divide error|stack segment|segment not present|alignment check|int3|bounds|overflow|control protection)(?: fault)? ip:`,
		"do_trap_no_signal, exc_general_protection, arch/x86/kernel/traps.c"),
	message(record.ProgramFault, `(?:signal: )?.{1,16}\[\d+\]:? bad frame in |potentially unexpected fatal signal \d+|.{1,16}\[\d+\]: unhandled (?:level \d )?(?:translation|permission|exception|alignment)`,
		"signal_fault, arch/x86/kernel/signal.c; print_fatal_signal, kernel/signal.c; arm64"),
	message(record.KernelBug, `BUG: |kmemleak: \d+ new suspected memory leaks`,
		"every other BUG: of the kernel; kmemleak_scan, mm/kmemleak.c"),
	message(record.GoPanic, `panic: |fatal error: `, "init and the agent, whose stderr is the console"),
	anywhere(record.GoPanic, `panic: runtime error: `, "the same behind other text without a newline"),
	message(record.KernelWarning, `WARNING: `, "__warn, kernel/panic.c, and every other WARNING: of the kernel"),
}

// harmless are messages of a kernel in which nothing is broken although they begin
// like a report.
var harmless = regexp.MustCompile(`^WARNING: workqueue cpumask: online intersect > possible intersect`)

// stream says where a program prints a report.
type stream int

const (
	onStderr stream = iota // on stdout the same text may be a file's
	onBoth
)

// A programReport is a report that programs print.
type programReport struct {
	report
	where stream
}

func program(class record.Reason, where stream, form, source string) programReport {
	return programReport{report{class, regexp.MustCompile(form), false, form, source}, where}
}

// programReports are those of programs, in the journal.
var programReports = []programReport{
	program(record.MarkerFail, onBoth, `^SELFTEST: .* FAIL\b`, "the nodes' programs, docs/protocol.md"),
	program(record.DataRace, onBoth, `^WARNING: (?:DATA RACE$|ThreadSanitizer: data race)`,
		"Go's race detector (log_path may be stdout) and ThreadSanitizer, compiler-rt/lib/tsan/rtl"),
	program(record.Sanitizer, onBoth, `^==\d+== ?(?:ERROR|WARNING): \w+Sanitizer: |^SUMMARY: \w+Sanitizer: |^\w+Sanitizer: ?DEADLYSIGNAL`,
		"compiler-rt/lib/sanitizer_common, asan, lsan, msan"),
	program(record.Sanitizer, onStderr, `^\S+:\d+:\d+: runtime error: `,
		"UndefinedBehaviorSanitizer, compiler-rt/lib/ubsan/ubsan_diag.cpp"),
	program(record.GoPanic, onStderr, `^panic: |^fatal error: |^unexpected fault address |^SIG(?:SEGV|BUS|FPE|ILL|ABRT|TRAP|SYS): |`+
		`^runtime: (?:goroutine stack exceeds |out of memory|program exceeds |failed to create new OS thread|bad pointer|pointer \S+ to )`,
		"Go: printpanics, runtime/panic.go; fatalthrow and throw, the same; sigpanic, runtime/signal_unix.go; newstack, runtime/stack.go"),
	program(record.GoPanic, onStderr, `panic: runtime error: `, "the same behind other text without a newline"),
	program(record.GoPanic, onStderr, `fatal error: (?:all goroutines are asleep - deadlock!|concurrent map )`,
		"the same"),
	program(record.ProgramAbort, onStderr, `^\*\*\* .* detected \*\*\*: terminated|^(?:double free or corruption|free\(\): |malloc\(\): |realloc\(\): |munmap_chunk\(\): |corrupted (?:size|double))`,
		"glibc: __fortify_fail, debug/fortify_fail.c; malloc_printerr, malloc/malloc.c"),
	program(record.ProgramAbort, onStderr, `^terminate called |^\S+: .*: Assertion .* failed\.$|^thread '.*' (?:\(\d+\) )?panicked at `,
		"C++'s std::terminate; __assert_fail of C; Rust's panic hook"),
	program(record.ProgramAbort, onStderr, `^(?:Segmentation fault|Aborted|Bus error|Illegal instruction|Floating point exception|Trace/breakpoint trap)(?: \(core dumped\))?$`,
		"a shell, of a program that it ran"),
}

// serviceEnded is what the agent says of a service that ended by itself with an exit
// status. One that a signal ended is left to what sent it: a kernel's report, or a
// step of the script.
var serviceEnded = regexp.MustCompile(`^[^ ]+` + agentapi.EndedText + `exit status `)

// goHead is the first line of a goroutine that has ended its program. It follows
// the line that says why.
var goHead = regexp.MustCompile(`^goroutine \d+ .*\[running.*\]:$`)

// goBegin are lines behind which one goroutine's stack is no news.
var goBegin = regexp.MustCompile(`^(?:panic|fatal error|SIG[A-Z0-9]+): `)

// goOwn begins a stack that a program that runs on prints by itself.
const goOwn = "runtime/debug.Stack("

const (
	// panicQuiet is how long the console must be quiet after a kernel report's
	// first line before it counts as told, and panicLongest when that never
	// happens: the useful part comes after the first line.
	panicQuiet   = 150 * time.Millisecond
	panicLongest = 2 * time.Second
	// stackQuiet is the same for a program's report, whose stack follows.
	stackQuiet = 50 * time.Millisecond
)

// unitKernel is the unit of the lines of the kernel's own console.
const unitKernel = "kernel"

// fatal returns the class of a line that ends a run, "" for any other, and how long
// its unit must be quiet before the report is whole.
func fatal(l console.Line) (record.Reason, time.Duration) {
	if l.Unit == unitKernel {
		said := messages(l.Text)
		for _, r := range kernelReports {
			if r.matches(l.Text, said) && !slices.ContainsFunc(said, harmless.MatchString) {
				return r.class, panicQuiet
			}
		}
		return "", 0
	}
	if l.Unit == agentapi.AgentUnit && l.Stream == agentapi.TroubleStream && serviceEnded.MatchString(l.Text) {
		return record.ServiceEnded, stackQuiet // `up` says more of a service that is not ready
	}
	for _, r := range programReports {
		if (r.where == onBoth || l.Stream == "stderr") && r.form.MatchString(l.Text) {
			if r.class == record.MarkerFail {
				return r.class, 0
			}
			return r.class, stackQuiet
		}
	}
	return "", 0
}

// A goCrash notices Go programs whose report follows other text without a newline,
// so that its first line begins like none: by the stack behind it. It belongs to one
// unit's stderr.
type goCrash struct {
	last  string // the last line that is not blank
	said  string // what stood before a stack, of which the first line is still to come
	known bool   // the next stack is no news
}

// next takes in a line and returns the one that told of a crash, "" when none did.
func (g *goCrash) next(text string) string {
	crash := g.said
	g.said = ""
	if strings.HasPrefix(text, goOwn) {
		crash = ""
	}
	switch {
	case goBegin.MatchString(text), strings.Contains(text, "panic: runtime error: "), strings.Contains(text, "fatal error: "):
		g.known = true
	case goHead.MatchString(text):
		if !g.known {
			g.said = g.last
		}
		g.known = false
	}
	if strings.TrimSpace(text) != "" {
		g.last = text
	}
	return crash
}
