package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"dsoftbus-rig/images"
	"dsoftbus-rig/rig/console"
	"dsoftbus-rig/rig/host"
	"dsoftbus-rig/rig/machine"
	"dsoftbus-rig/rig/record"
	"dsoftbus-rig/rig/recording"
	"dsoftbus-rig/rig/replay"
	"dsoftbus-rig/rig/suite"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// replayFlags are the flags of `rig replay`.
type replayFlags struct {
	scenario string
	life     int
	all      bool
	qemu     string
	runs     string

	until   string
	find    string
	dump    string
	gdb     string
	binary  string
	symbols string
	listen  bool
	port    uint16
}

// What -gdb debugs.
const (
	gdbGo     = "go"
	gdbKernel = "kernel"
)

func newReplayCommand() *cobra.Command {
	var f replayFlags
	cmd := &cobra.Command{
		Use:   "replay RUN NODE | replay -j RUN",
		Short: "Replay a machine that was recorded, alone, and look at it on the way",
		Long: `Replay replays the machine of a node, which ` + "`rig run -record`" + ` has recorded: alone,
without its peers or any network, instruction for instruction as it ran. It needs no
privileges. RUN is a run's folder, or the name of one in runs, such as latest.

What the machine prints is shown as it comes, and compared with what it printed; the
first difference ends the replay. The emulator has to be of the version that
recorded. Where the machine idled, the replay does not.

With -until POINT the machine stops there. A POINT is

    dsoftbusd: ready        the first line with that text, complete
    /session ok node-.$/    the first line that matches
    line:17, step:5         where the machine was when that line of the script, or
                            that step, began (to some 0.1 s)
    12.5s                   where it was that long after the scenario's start
    instruction:770570749   after so many instructions

There -dump FILE writes its memory, for rig stacks, and -gdb opens gdb, or says how to
connect it: breakpoints in Go programs by their names, info goroutines, and
reverse-continue, reverse-step, reverse-stepi to go back. Without -until, -dump is at
the recording's end and -gdb at its beginning.

gdb connects through a unix socket in a folder that only your user may enter. For
editors that need TCP, -port listens on a port of 127.0.0.1 instead. QEMU's stub gives
its client QEMU's monitor, and by that programs of this host: so there only
connections of your own user are served, by the kernel's socket tables, one at a
time, and requests of web pages are refused.

With -find WHAT the first instruction is found after which something holds, by
replaying parts of the recording again and again: a marker or /regexp/, or a value in
a Go program, as in

    rig replay -find "gdb:dsoftbusd:'dsoftbus-rig/nodes/PACKAGE.variable' > 5" latest A

It is assumed to hold from a moment on; what comes and goes is found at one of the
moments at which it came, or not at all. A program that does not run does not hold
anything.`,
		Args: func(_ *cobra.Command, args []string) error {
			if f.all {
				if len(args) != 1 {
					return usage("replay -j: name a run, and no node: all of them are replayed")
				}
				return nil
			}
			if len(args) != 2 {
				return usage("replay: name a run and a node, as in rig replay latest A")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return classify(cmd.Context(), classifyReplay(f.run(cmd, args)))
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.scenario, "scenario", "", "`NAME` of the scenario, when several were recorded (default: the only one, or the only one that failed)")
	flags.IntVar(&f.life, "life", 0, "the `N`-th life of the node, which was started more than once (default: all in turn, or the one in which the point lies)")
	flags.BoolVarP(&f.all, "all", "j", false, "replay all nodes of the scenario side by side, each alone")
	flags.StringVar(&f.qemu, "qemu", "", "`PATH` of the emulator (default: the one that recorded)")
	flags.StringVar(&f.runs, "runs", "", "`FOLDER` of the records (default: runs in the project's folder)")
	flags.StringVar(&f.until, "until", "", "stop at a `POINT`: a marker, /regexp/, line:N, step:N, a time such as 12.5s, or instruction:N")
	flags.StringVar(&f.find, "find", "", "find the first instruction after which `WHAT` holds: a marker, /regexp/, or gdb:PROGRAM:EXPRESSION")
	flags.StringVar(&f.dump, "dump", "", "write the machine's memory to this new `FILE` there")
	flags.StringVar(&f.gdb, "gdb", "", "open gdb there, on `WHAT`: go, the programs, which is meant without a value, or kernel")
	flags.Lookup("gdb").NoOptDefVal = gdbGo
	flags.StringVar(&f.binary, "binary", "", "the `FILE` of the programs' binary with debug information, for -gdb and -find (default: "+recording.DebugFile+" of the run)")
	flags.StringVar(&f.symbols, "symbols", "", "`FILE` with the kernel's symbols, a vmlinux, for -gdb=kernel")
	flags.BoolVar(&f.listen, "listen", false, "with -gdb: only say how to connect, also on a terminal")
	flags.Uint16Var(&f.port, "port", 0, "with -gdb: "+portUsage)
	return cmd
}

// check finds what makes no sense together.
func (f *replayFlags) check() error {
	stops := f.until != "" || f.find != "" || f.dump != "" || f.gdb != ""
	switch {
	case f.all && (stops || f.life != 0):
		return usage("replay -j: all nodes are replayed as a whole; for -until, -find, -dump, -gdb and -life name one")
	case f.find != "" && f.until != "":
		return usage("replay: -find and -until are two points; say one")
	case f.gdb != "" && f.gdb != gdbGo && f.gdb != gdbKernel:
		return usage("replay -gdb=%s: say -gdb for the programs, or -gdb=kernel", f.gdb)
	case f.life < 0:
		return usage("replay -life %d: lives are counted from 1", f.life)
	case f.dump != "" && exists(f.dump):
		return usage("replay: %s exists; name another file", f.dump)
	case f.symbols != "" && f.gdb != gdbKernel:
		return usage("replay: -symbols is for -gdb=kernel")
	}
	for _, file := range []string{f.symbols, f.binary} {
		if file != "" && !exists(file) {
			return usage("replay: there is no file %s", file)
		}
	}
	return nil
}

// classifyReplay gives what replays can meet its exit status.
func classifyReplay(err error) error {
	var differs *replay.DifferenceError
	var refused *replay.RefusedError
	var nowhere *replay.NoPointError
	switch {
	case errors.As(err, &differs) || errors.Is(err, replay.ErrNever):
		return &exitError{record.ExitFailed, err}
	case errors.As(err, &refused) || errors.As(err, &nowhere):
		return &exitError{record.ExitInvalid, err}
	}
	return err
}

func (f *replayFlags) run(cmd *cobra.Command, args []string) error {
	if err := f.check(); err != nil {
		return err
	}
	root := f.runs
	if root == "" && !exists(args[0]) {
		dir, err := project(cmd)
		if err != nil {
			return usage("%w", err)
		}
		root = filepath.Join(dir, "runs")
	}
	folder, err := runFolder(root, args[0])
	if err != nil {
		return usage("replay: %w", err)
	}
	all, err := replay.Scenarios(folder)
	if err != nil {
		return usage("replay: %w", err)
	}
	s, err := replay.Choose(all, f.scenario)
	if err != nil {
		return usage("replay: %s: %w", suite.Shown(folder), err)
	}
	screen := newReplayScreen(cmd)
	if f.all {
		return f.replayAll(cmd.Context(), s, screen)
	}
	n, err := s.Node(args[1])
	if err != nil {
		return usage("replay: %w", err)
	}
	lives := n.Lives
	if f.life > 0 {
		if f.life > len(lives) {
			return usage("replay: node %s has %d lives in scenario %s, not %d", n.Name, len(lives), s.Name, f.life)
		}
		lives = lives[f.life-1 : f.life]
	}
	if f.until == "" && f.find == "" && f.dump == "" && f.gdb == "" {
		return f.replayNode(cmd.Context(), s, replay.Node{Name: n.Name, Lives: lives}, screen.of(""))
	}
	v := &visit{cmd: cmd, flags: f, scenario: s, voice: screen.of("")}
	return v.visit(cmd.Context(), lives)
}

// options are those of a life's replay.
func (f *replayFlags) options(s *replay.Scenario, v *voice) replay.Options {
	return replay.Options{QEMU: cmp.Or(f.qemu, host.DefaultQEMU), Run: s.Run, Tell: v.line, Progress: v.progress, Stderr: v}
}

// replayNode replays the lives of a node, one after another.
func (f *replayFlags) replayNode(ctx context.Context, s *replay.Scenario, n replay.Node, v *voice) error {
	lines := 0
	for _, life := range n.Lives {
		if len(n.Lives) > 1 {
			v.say(fmt.Sprintf("life %d", life.Number))
		}
		count, err := f.replayLife(ctx, s, life, v)
		lines += count
		if err != nil {
			return err
		}
	}
	v.print(fmt.Sprintf("identical, %d lines", lines))
	return nil
}

func (f *replayFlags) replayLife(ctx context.Context, s *replay.Scenario, life *recording.Life, v *voice) (lines int, err error) {
	p, err := replay.Open(ctx, life, f.options(s, v))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	err = p.Run(ctx)
	v.clear()
	return p.Lines(), err
}

// replayAll replays all nodes side by side.
func (f *replayFlags) replayAll(ctx context.Context, s *replay.Scenario, screen *replayScreen) error {
	errs := make([]error, len(s.Nodes))
	var running sync.WaitGroup
	for i, n := range s.Nodes {
		running.Go(func() {
			v := screen.of(n.Name + ": ")
			if errs[i] = f.replayNode(ctx, s, n, v); errs[i] != nil {
				errs[i] = fmt.Errorf("node %s: %w", n.Name, errs[i])
				if ctx.Err() == nil {
					v.print("not identical")
				}
			}
		})
	}
	running.Wait()
	return errors.Join(errs...)
}

// A visit goes to a point of a recording and looks at the machine there.
type visit struct {
	cmd      *cobra.Command
	flags    *replayFlags
	scenario *replay.Scenario
	voice    *voice
}

func (v *visit) visit(ctx context.Context, lives []*recording.Life) error {
	f := v.flags
	var point string
	switch {
	case f.until != "":
		point = f.until
	case f.find != "" && !strings.HasPrefix(f.find, variablePrefix):
		point = f.find
	}
	if point != "" {
		at, err := replay.ParsePoint(point)
		if err != nil {
			return usage("replay: %w", err)
		}
		if f.find != "" && !at.Marker() {
			return usage("replay: -find %s: that is no marker; -until goes there", f.find)
		}
		target, err := v.scenario.Resolve(lives, at)
		if err != nil {
			return err
		}
		return v.life(ctx, target.Life, func(p *replay.Player) error {
			if f.find != "" {
				return v.hunt(ctx, p, replay.FindMarker(target))
			}
			return p.GoTo(ctx, target, f.gdb != "")
		})
	}
	if f.find != "" {
		hunt, err := v.variable()
		if err != nil {
			return err
		}
		// The first life in which it holds.
		for i, life := range lives {
			err := v.life(ctx, life, func(p *replay.Player) error { return v.hunt(ctx, p, hunt) })
			if i == len(lives)-1 || !errors.Is(err, replay.ErrNever) {
				return err
			}
		}
	}
	if len(lives) > 1 {
		return usage("replay: node %s has %d lives; name one with -life, or a point with -until", lives[0].Node, len(lives))
	}
	return v.life(ctx, lives[0], func(p *replay.Player) error {
		if f.gdb != "" {
			return p.Save(ctx)
		}
		return p.Run(ctx) // -dump: there the machine stands still
	})
}

// life replays a life as goes says, and then does what is to be done there.
func (v *visit) life(ctx context.Context, life *recording.Life, goes func(*replay.Player) error) (err error) {
	p, err := replay.Open(ctx, life, v.flags.options(v.scenario, v.voice))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	err = goes(p)
	v.voice.clear()
	if errors.Is(err, replay.ErrEnded) {
		return &replay.NoPointError{Point: v.flags.until + v.flags.find, Why: "the recording ends before"}
	}
	if err != nil {
		return err
	}
	if err := v.stands(ctx, p); err != nil {
		return err
	}
	if v.flags.dump != "" {
		if err := v.dump(ctx, p); err != nil {
			return err
		}
	}
	if v.flags.gdb != "" {
		return v.debug(ctx, p)
	}
	return nil
}

func (v *visit) hunt(ctx context.Context, p *replay.Player, h replay.Hunt) error {
	h.Keep = v.flags.gdb != ""
	h.Told = func(low, high int64) {
		v.voice.fleeting(fmt.Sprintf("between instruction %d and %d", low, high))
	}
	found, err := p.Find(ctx, h)
	if err != nil {
		return err
	}
	v.voice.clear()
	v.voice.print(fmt.Sprintf("%s: it holds after instruction %d, and not before; found by %d replays of parts. It is assumed to hold from a moment on.",
		console.Clean(v.flags.find), found.Instructions, found.Replays))
	return nil
}

// stands says where the machine stands.
func (v *visit) stands(ctx context.Context, p *replay.Player) error {
	at, err := p.Progress(ctx)
	if err != nil {
		return err
	}
	when, err := replay.TimeAt(p.Life(), at.Instructions)
	if err != nil {
		return err
	}
	text := fmt.Sprintf("node %s stands at instruction %d, %.1f %% of the log, about %.2f s after the scenario's start", p.Life().Node, at.Instructions, 100*at.Share,
		when.Sub(v.scenario.Started).Seconds())
	if p.Life().Number > 1 {
		text += fmt.Sprintf(", in life %d", p.Life().Number)
	}
	if step, ok := v.scenario.StepAt(when); ok {
		text += fmt.Sprintf("\nstep %d, line %d: %s", step.Number, step.Line, console.Clean(step.Text))
	}
	if last := p.LastLines(); len(last) > 0 {
		text += "\nits last lines:"
		for _, l := range last {
			text += "\n  " + l.String()
		}
	}
	v.voice.print(text)
	return nil
}

// binaryFile is the programs' binary with debug information.
func (v *visit) binaryFile() (string, error) {
	file := v.flags.binary
	if file == "" {
		file = filepath.Join(v.scenario.Run, recording.DebugFile)
	}
	file, err := filepath.Abs(file)
	if err == nil && !exists(file) {
		err = usage("replay: there is no %s; name the programs' binary with debug information with -binary", suite.Shown(file))
	}
	return file, err
}

// dump writes the machine's memory, and how to read it.
func (v *visit) dump(ctx context.Context, p *replay.Player) error {
	if err := p.Machine().Dump(ctx, v.flags.dump); err != nil {
		return err
	}
	command := "rig stacks "
	if debugBinaryOf(v.flags.dump) == "" {
		if binary, err := v.binaryFile(); err == nil {
			command += "-binary " + machine.Quote(binary) + " "
		}
	}
	v.voice.print("its memory is in " + console.Clean(v.flags.dump) + ":\n  " + command + machine.Quote(v.flags.dump))
	return nil
}

// A replayScreen is what a replay is shown on: lines on stdout, how far it is on stderr.
type replayScreen struct {
	mu       sync.Mutex
	out, err io.Writer
	terminal bool // stderr is one
	fleeting bool // there is a line that the next one replaces
}

func newReplayScreen(cmd *cobra.Command) *replayScreen {
	return &replayScreen{out: cmd.OutOrStdout(), err: cmd.ErrOrStderr(), terminal: term.IsTerminal(int(os.Stderr.Fd()))}
}

// of is the screen of one node, whose lines begin with prefix.
func (s *replayScreen) of(prefix string) *voice { return &voice{screen: s, prefix: prefix} }

// A voice is one node's on a screen.
type voice struct {
	screen *replayScreen
	prefix string
	tenths int // of the log that were said
}

func (v *voice) line(l replay.Line) { v.print(l.String()) }

// print prints lines on stdout. As in say, what a terminal should not see of them is
// written out: names of folders and nodes are a record's.
func (v *voice) print(text string) { v.write(v.screen.out, text) }

// say prints lines on stderr.
func (v *voice) say(text string) { v.write(v.screen.err, text) }

func (v *voice) write(w io.Writer, text string) {
	s := v.screen
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear()
	for line := range strings.SplitSeq(text, "\n") {
		fmt.Fprintln(w, console.Clean(v.prefix+line))
	}
}

// Write passes on what QEMU prints.
func (v *voice) Write(b []byte) (int, error) {
	v.say("QEMU: " + console.Clean(strings.TrimSuffix(string(b), "\n")))
	return len(b), nil
}

// fleeting shows a line that the next one replaces, where that is possible.
func (v *voice) fleeting(text string) {
	s := v.screen
	if !s.terminal || v.prefix != "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear()
	fmt.Fprint(s.err, text)
	s.fleeting = true
}

func (v *voice) clear() {
	v.screen.mu.Lock()
	defer v.screen.mu.Unlock()
	v.screen.clear()
}

func (s *replayScreen) clear() {
	if s.fleeting {
		fmt.Fprint(s.err, "\r\x1b[K")
		s.fleeting = false
	}
}

func (v *voice) progress(p replay.Progress) {
	text := fmt.Sprintf("%3.0f %% of the log, instruction %d", 100*p.Share, p.Instructions)
	if v.screen.terminal && v.prefix == "" {
		v.fleeting(text)
		return
	}
	if tenths := int(10 * p.Share); tenths > v.tenths {
		v.tenths = tenths
		v.say(text)
	}
}

// goRuntimeGDB is what teaches gdb goroutines, "" where there is no Go.
func goRuntimeGDB(ctx context.Context) (script, sources string) {
	out, err := images.HostGo(ctx, "env", "GOROOT").Output()
	if err != nil {
		return "", ""
	}
	sources = filepath.Join(strings.TrimSpace(string(out)), "src")
	if script = filepath.Join(sources, "runtime", "runtime-gdb.py"); !exists(script) {
		return "", ""
	}
	return script, sources
}
