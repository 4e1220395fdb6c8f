package main

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strconv"
	"time"

	"dsoftbus-rig/rig/capture"
	"dsoftbus-rig/rig/record"
	"dsoftbus-rig/rig/suite"

	"github.com/spf13/cobra"
)

// runFlags are the flags of `rig run`.
type runFlags struct {
	machineFlags
	runs string
	name string

	keepRuns bool

	verbose bool
	json    bool
	cold    bool

	jobs          int
	repeat        int
	retries       int
	untilFail     bool
	failFast      bool
	timeout       time.Duration
	shard         string
	shuffle       string
	both          bool
	saveDurations bool

	debug    bool
	patience time.Duration

	capture     string
	captureSize int // MiB
	keyLog      bool
	cover       coverFlags
	record      string
	recordTries int

	// What check makes of them.
	shardIndex, shards int     // shards 0: not sharded
	seed               *uint64 // nil: not shuffled
}

func (f *runFlags) add(cmd *cobra.Command) {
	f.machineFlags.add(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.runs, "runs", "", "`FOLDER` for the records (default: runs in the project's folder)")
	flags.StringVar(&f.name, "name", "", "`NAME` of this run, in its folder's name (default: the pattern)")
	flags.BoolVar(&f.keepRuns, "keep-runs", false, "remove no old records at the end (see rig gc)")
	flags.BoolVarP(&f.verbose, "verbose", "v", false, "show each step as it runs")
	flags.BoolVar(&f.json, "json", false, "print what go test -json would, for gotestsum and its like; -v adds nothing to that")
	flags.BoolVar(&f.cold, "cold", false, "boot every machine from its kernel, in place of cloning a saved one")
	flags.BoolVar(&f.both, "both", false, "play each scenario on clones and on booted machines; it must go the same way")
	flags.IntVarP(&f.jobs, "jobs", "j", 0, "scenarios to play side by side (default: one per core, as far as there is memory)")
	flags.IntVar(&f.repeat, "repeat", 1, "play each scenario that many times, each on fresh machines")
	flags.IntVar(&f.retries, "retries", 0, "play a scenario that failed again, on fresh machines, up to that many times; it is flaky when it then passes")
	flags.BoolVar(&f.untilFail, "until-fail", false, "repeat until something is not green, at most -repeat times if that is given")
	flags.BoolVar(&f.failFast, "failfast", false, "begin nothing new once something is not green")
	flags.DurationVar(&f.timeout, "timeout", 0, "end the whole run, images included, after that time (default: never)")
	flags.StringVar(&f.shard, "shard", "", "play the `I/N`-th part of the scenarios; all N parts together have each once")
	flags.StringVar(&f.shuffle, "shuffle", "", "play in an order drawn by `SEED`, a number; on draws one and says which")
	flags.BoolVar(&f.debug, "debug", false, "stand still where a step fails, and at the command break, and ask what to do; implies -j 1")
	flags.BoolVar(&f.debug, "pause-on-fail", false, "the same as -debug")
	flags.DurationVar(&f.patience, "debug-wait", suite.DefaultPatience, "how long a scenario that stands still waits for somebody to come to the prompt")
	flags.StringVar(&f.capture, "capture", string(suite.KeepFail), "keep the network's frames of scenarios `WHEN`: always, fail (of those that are not green) or never")
	flags.IntVar(&f.captureSize, "capture-size", capture.DefaultLimit>>20, "how many MiB of frames are kept of one scenario, the first ones")
	flags.BoolVar(&f.keyLog, "keylog", false, "keep the keys of sessions in "+record.KeysFile+", for rig decode: whoever has them can read all that the sessions carry")
	flags.StringVar(&f.record, "record", "", "record machines of `WHICH` scenarios, so that each can be replayed alone (rig replay): all, which is meant without a value, or fail, which plays what failed again, recorded")
	flags.Lookup("record").NoOptDefVal = recordAll
	flags.IntVar(&f.recordTries, "record-tries", 10, "with -record=fail, how often a scenario that failed is played again until it fails recorded")
	f.addCover(cmd)
	flags.BoolVar(&f.saveDurations, "save-durations", false, "write how long scenarios took to scenarios/"+suite.DurationsFile+", by which -shard shares them out")
}

var shardForm = regexp.MustCompile(`^([0-9]{1,6})/([0-9]{1,6})$`)

// check refuses what makes no sense before anything is started.
func (f *runFlags) check(cmd *cobra.Command) error {
	if err := f.machineFlags.check(); err != nil {
		return err
	}
	given := cmd.Flags().Changed
	switch {
	case given("jobs") && f.jobs < 1:
		return usage("-j %d: nothing can be played by fewer than one; say -j 1 or more, or leave it out", f.jobs)
	case f.repeat < 1:
		return usage("-repeat %d: say -repeat 1 or more; for a run without end, -until-fail", f.repeat)
	case f.json && f.debug:
		return usage("-json with -debug: a prompt cannot share stdout with what a program reads; leave one of them out")
	case f.retries < 0:
		return usage("-retries %d: say how often a scenario that failed is to be tried again, as in -retries 2", f.retries)
	case f.retries > 0 && f.debug:
		return usage("-retries with -debug: where a scenario stands still, a person says how it goes on; leave one of them out")
	case f.retries > 0 && f.both:
		return usage("-retries with -both: -both compares two playings, and a further one would have nothing to be compared with; leave one of them out")
	case f.retries > 0 && f.untilFail:
		return usage("-retries with -until-fail: that run is to end at a failure, however the next try goes; leave one of them out, or say -failfast")
	case given("timeout") && f.timeout <= 0:
		return usage("-timeout %s: no run ends before it begins; say how long it may take, as in -timeout 10m", f.timeout)
	case given("debug-wait") && f.patience <= 0:
		return usage("-debug-wait %s: nobody comes that fast; say how long to wait, as in -debug-wait 1h", f.patience)
	case f.debug && f.jobs > 1:
		return usage("-debug with -j %d: one person sits at one prompt; leave -j out", f.jobs)
	case given("capture") && !suite.Keep(f.capture).Valid():
		return usage("-capture %s: say -capture always, fail or never", f.capture)
	case given("capture-size") && f.captureSize < 1:
		return usage("-capture-size %d: say how many MiB, at least 1; to keep none, -capture never", f.captureSize)
	case f.both && f.cold:
		return usage("-both with -cold: -both already plays each scenario on booted machines, beside clones; leave one of them out")
	case f.saveDurations && f.cold:
		return usage("-save-durations with -cold: durations are kept of clones, which is how scenarios are mostly played; leave one of them out")
	}
	if err := f.checkRecord(given); err != nil {
		return err
	}
	if given("shard") {
		m := shardForm.FindStringSubmatch(f.shard)
		if m == nil {
			return usage("-shard %q: say which part of how many, as in -shard 1/2", f.shard)
		}
		f.shardIndex, _ = strconv.Atoi(m[1]) // it is six digits
		f.shards, _ = strconv.Atoi(m[2])
		if f.shardIndex < 1 || f.shardIndex > f.shards {
			return usage("-shard %s: parts are counted from 1/%d to %[2]d/%[2]d", f.shard, max(1, f.shards))
		}
	}
	if given("shuffle") {
		seed := uint64(rand.Uint32()) // short enough to be typed again
		if f.shuffle != "on" {
			var err error
			if seed, err = strconv.ParseUint(f.shuffle, 10, 64); err != nil {
				return usage("-shuffle %q: say -shuffle on to have an order drawn, or the seed of an earlier run, a number from 0 on", f.shuffle)
			}
		}
		f.seed = &seed
	}
	return f.checkCover(cmd.Context())
}

// Values of -record.
const (
	recordAll  = "all"
	recordFail = "fail"
)

func (f *runFlags) checkRecord(given func(string) bool) error {
	switch {
	case given("record") && f.record != recordAll && f.record != recordFail:
		return usage("-record=%s: say -record, or -record=fail", f.record)
	case given("record-tries") && f.record != recordFail:
		return usage("-record-tries without -record=fail: only what failed is played again to be recorded")
	case given("record-tries") && f.recordTries < 1:
		return usage("-record-tries %d: say 1 or more", f.recordTries)
	case f.record != "" && f.both:
		return usage("-record with -both: what -both compares are clones, which cannot be recorded, and booted machines; leave one of them out")
	case f.record != "" && f.counting:
		return usage("-record with -cover: what is replayed is looked at with debug information, which is of programs that do not count; leave one of them out")
	case f.record == recordFail && f.debug:
		return usage("-record=fail with -debug: where a scenario stands still, a person says how it goes on; leave one of them out")
	case f.record == recordAll && f.saveDurations:
		return usage("-save-durations with -record: durations are kept of clones, and recorded machines boot; leave one of them out")
	case f.record != "" && f.accel == "kvm":
		return usage("-record with -accel kvm: QEMU records under software emulation; leave one of them out")
	}
	// Recorded machines boot from their kernel: a saved machine was not recorded from its beginning.
	f.cold = f.cold || f.record == recordAll
	return nil
}

// rounds is how often each scenario is played; 0 is without end.
func (f *runFlags) rounds(cmd *cobra.Command) int {
	if f.untilFail && !cmd.Flags().Changed("repeat") {
		return 0
	}
	return f.repeat
}

// sideBySide is how many scenarios are played at a time.
func (f *runFlags) sideBySide() int {
	if f.debug {
		return 1
	}
	if f.jobs > 0 {
		return f.jobs
	}
	return suite.DefaultJobs()
}

// pick returns the items of this run's shard, in a project's folder, which part that
// is, and what there is to say about that.
func (f *runFlags) pick(items []suite.Item, durations string) (picked []suite.Item, shard *record.Shard, note string, err error) {
	if f.shards == 0 {
		return items, nil, "", nil
	}
	// A file that only some hosts can read would have shards overlap.
	expected, err := suite.LoadDurations(durations)
	if err != nil {
		return nil, nil, "", usage("%w; write it anew with -save-durations", err)
	}
	picked = suite.Shard(items, f.shardIndex, f.shards, expected)
	if len(picked) == 0 { // it would be green, and nothing would have been played
		return nil, nil, "", usage("-shard %s: this part of %d scenarios is empty; have at most as many parts as there are scenarios", f.shard, len(items))
	}
	names := sha256.New()
	for _, item := range items {
		fmt.Fprintln(names, item.Name)
	}
	shard = &record.Shard{Index: f.shardIndex, Of: f.shards, Set: fmt.Sprintf("%.8x", names.Sum(nil))}
	return picked, shard, fmt.Sprintf("shard %d of %d: %d of %d scenarios", f.shardIndex, f.shards, len(picked), len(items)), nil
}
