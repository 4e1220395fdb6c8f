package replay

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"dsoftbus-rig/rig/follow"
	"dsoftbus-rig/rig/machine"
	"dsoftbus-rig/rig/recording"
)

// Options say how to replay.
type Options struct {
	QEMU string // the emulator, as the user has it: a recording does not name one
	Run  string // the run's folder, with what the machines booted

	Tell     func(Line)     // gets each line that was printed as recorded, once, one at a time; may be nil
	Progress func(Progress) // is told each second how far it is; may be nil
	Stderr   io.Writer      // gets what QEMU itself prints; nil: nobody does

	stalled time.Duration // for tests: in place of stalledBusy
}

// Progress is how far a replay is.
type Progress struct {
	Share        float64 // of the log, 0 to 1
	Instructions int64   // executed
}

// ErrEnded says that the recording has ended.
var ErrEnded = errors.New("the recording ends before")

// A Player is one machine that replays a recording. All methods but Close are for one goroutine at a time.
type Player struct {
	life *recording.Life
	o    Options
	dir  string // temporary
	// sandbox says that QEMU can confine itself.
	sandbox bool
	disk    *os.File
	size    int64 // of the log
	out     *output

	m      *machine.Machine
	files  []*follow.File
	tasks  sync.WaitGroup // those of the machine: its events, its files
	saved  []state        // by place
	named  int            // of saved, how many names were used
	noSave error          // why nothing can be saved; nil: it can, or nobody knows

	mu      sync.Mutex
	changed chan struct{}
	resumes int // how often the machine went on
	running bool
	ended   bool // the log has

	watch watch
	at    atomic.Int64 // instructions executed, as QEMU has said last
	// Replays is how often a part of the recording was replayed.
	Replays int
}

// A Place is where a machine stands.
type Place struct {
	Instructions int64 // executed
	printed      []int // of each stream, bytes
}

// instances tells machines of this process apart.
var instances atomic.Int64

// Open starts a machine that replays a recording. It stands at its first instruction. It ends with ctx at the latest.
func Open(ctx context.Context, life *recording.Life, o Options) (*Player, error) {
	if err := Check(ctx, life, o.QEMU, o.Run); err != nil {
		return nil, err
	}
	if o.Stderr == nil {
		o.Stderr = io.Discard
	}
	p := &Player{life: life, o: o, changed: make(chan struct{}), sandbox: machine.CheckSandbox(ctx, o.QEMU) == nil}
	p.out = &output{tell: o.Tell, changed: p.change}
	for _, name := range []string{recording.ConsoleFile, recording.JournalFile} {
		want, err := os.ReadFile(life.File(name))
		if err != nil {
			return nil, fmt.Errorf("read the recording: %w", err)
		}
		p.out.streams = append(p.out.streams, &stream{name: name, want: want})
	}
	info, err := os.Stat(life.File(recording.LogFile))
	if err != nil {
		return nil, fmt.Errorf("read the recording: %w", err)
	}
	p.size = info.Size()
	if p.dir, err = os.MkdirTemp("", "rig-replay-"); err != nil {
		return nil, err
	}
	err = p.makeDisk()
	if err == nil {
		err = p.start(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// makeDisk makes the disk that states are saved to. It has no name: whoever ends this process, the space is free again, which may be a GiB.
func (p *Player) makeDisk() (err error) {
	if p.disk, err = os.CreateTemp(p.dir, "snapshots-"); err != nil {
		return err
	}
	_, err = p.disk.Write(emptyDisk())
	return errors.Join(err, os.Remove(p.disk.Name()))
}

func (p *Player) file(name string) string { return filepath.Join(p.dir, name) }

// emptyDisk is a qcow2 disk of 1 MiB with nothing on it. QEMU cannot make one while it replays: its jobs would wait for the log to have them.
func emptyDisk() []byte {
	const cluster = 64 << 10
	disk := make([]byte, 4*cluster) // header, table of reference counts, one block of them, table of clusters
	var header bytes.Buffer
	for _, v := range []any{
		[]byte("QFI\xfb"), uint32(3), // version
		uint64(0), uint32(0), // no backing file
		uint32(16), uint64(1 << 20), // bits of a cluster's size, size of the disk
		uint32(0), uint32(1), uint64(3 * cluster), // not encrypted; table of clusters: one entry
		uint64(cluster), uint32(1), // table of reference counts: one cluster
		uint32(0), uint64(0), // no snapshots
		uint64(0), uint64(0), uint64(0), // no features
		uint32(4), uint32(112), // a reference count has 16 bits; length of this header
	} {
		_ = binary.Write(&header, binary.BigEndian, v) // to memory
	}
	copy(disk, header.Bytes())
	binary.BigEndian.PutUint64(disk[cluster:], 2*cluster)
	for i := range 4 {
		binary.BigEndian.PutUint16(disk[2*cluster+2*i:], 1)
	}
	return disk
}

// start starts the machine, with its output files anew.
func (p *Player) start(ctx context.Context) error {
	args, err := p.life.ReplayArgs(recording.Replay{
		Log: p.life.File(recording.LogFile), Console: p.file(recording.ConsoleFile), Journal: p.file(recording.JournalFile),
		Kernel: filepath.Join(p.o.Run, recording.KernelFile), Initrd: filepath.Join(p.o.Run, recording.InitrdFile),
		Snapshots: machine.ReplayDisk, QMP: machine.ReplayQMP, GDB: machine.ReplayGDB,
	})
	if err != nil {
		return err
	}
	p.out.rewind(make([]int, len(p.out.streams)), true)
	p.files = nil
	for _, s := range p.out.streams {
		if err := os.Remove(p.file(s.name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		f, err := follow.Open(p.file(s.name))
		if err != nil {
			return err
		}
		p.files = append(p.files, f)
	}
	name := fmt.Sprintf("replay-%d-%d/%s", os.Getpid(), instances.Add(1), p.life.Node)
	hw := machine.Hardware{QEMU: p.o.QEMU, Sandbox: p.sandbox}
	m, err := machine.StartReplay(ctx, name, hw, args, p.disk, &warnings{to: p.o.Stderr})
	if err != nil {
		return err
	}
	p.m = m
	p.resumes, p.running, p.ended = 0, false, false
	p.at.Store(0)
	p.watch = newWatch(m, p.life.File(recording.LogFile), p.o.stalled)
	p.tasks.Go(func() {
		for e := range m.Events() {
			p.event(e)
			if e.Name == "RESET" && p.life.Resets > 0 {
				p.tasks.Go(func() { _ = p.m.Reset(ctx) }) // which ends with the machine
			}
		}
	})
	if p.life.Resets > 0 {
		// That somebody pressed the button is not in the log, but when it took effect is: what is asked for now waits for that.
		if err := m.Reset(ctx); err != nil {
			return err
		}
	}
	for i, f := range p.files {
		p.tasks.Go(func() {
			b := make([]byte, 32<<10)
			for {
				n, err := f.Read(b)
				if n > 0 {
					p.out.feed(p.out.streams[i], b[:n])
				}
				if err != nil {
					return // it was closed, or there is no more
				}
			}
		})
	}
	return nil
}

// end ends the machine, and what reads of it.
func (p *Player) end() error {
	if p.m != nil {
		p.m.Kill()
	}
	var err error
	for _, f := range p.files {
		f.End()
	}
	p.tasks.Wait()
	for _, f := range p.files {
		err = errors.Join(err, f.Close())
	}
	p.m, p.files = nil, nil
	return err
}

// Close ends the machine and removes what it needed.
func (p *Player) Close() error {
	err := p.end()
	if p.disk != nil {
		err = errors.Join(err, p.disk.Close())
	}
	return errors.Join(err, os.RemoveAll(p.dir))
}

// Machine is the machine itself, to look at while it stands still.
func (p *Player) Machine() *machine.Machine { return p.m }

// Life is the recording.
func (p *Player) Life() *recording.Life { return p.life }

// LastLines are the lines that came last, some five.
func (p *Player) LastLines() []Line { return p.out.lastLines() }

// Lines is how many lines have come.
func (p *Player) Lines() int { return p.out.count() }

// Mute ends comparing and telling: somebody else moves the machine from here on.
func (p *Player) Mute() {
	p.out.mu.Lock()
	defer p.out.mu.Unlock()
	p.out.mute = true
}

func (p *Player) event(e machine.Event) {
	p.mu.Lock()
	switch e.Name {
	case "RESUME":
		p.resumes++
		p.running = true
	case "STOP":
		p.running = false
	case "SHUTDOWN":
		p.ended = true
	}
	p.mu.Unlock()
	p.change()
}

// change wakes who waits.
func (p *Player) change() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.changed)
	p.changed = make(chan struct{})
}

// Run replays to the end of the recording. Nil: the machine printed what it printed then.
func (p *Player) Run(ctx context.Context) error {
	err := p.goOn(ctx, nil)
	if err == nil {
		err = fmt.Errorf("replay node %s: the machine stands still before its recording ends, and nobody asked it to", p.life.Node)
	}
	if !errors.Is(err, ErrEnded) {
		return err
	}
	return p.out.end()
}

// RunTo replays until the machine has executed that many instructions, which must not be fewer than it has. With ErrEnded it stands where its recording ends.
func (p *Player) RunTo(ctx context.Context, instructions int64) error {
	_, err := p.runTo(ctx, instructions, nil)
	return err
}

// runTo is RunTo, but ends early when reached is true of what was printed; early says so.
func (p *Player) runTo(ctx context.Context, instructions int64, reached func() bool) (early bool, err error) {
	at, err := p.m.Position(ctx)
	if err != nil {
		return false, err
	}
	p.at.Store(at)
	if at == instructions {
		return false, nil
	}
	if at > instructions {
		return false, fmt.Errorf("replay node %s to instruction %d: it stands at %d already", p.life.Node, instructions, at)
	}
	if err := p.m.BreakAt(ctx, instructions); err != nil {
		return false, err
	}
	if err := p.goOn(ctx, reached); err != nil {
		return false, err
	}
	if at, err = p.m.Position(ctx); err != nil || at == instructions {
		return false, err
	}
	return true, p.m.ForgetBreak(ctx)
}

// watchEvery is how often it is looked at how far a replay is.
const watchEvery = time.Second

// goOn lets the machine run until it stops at a break, or reached is true: then nil, and it stands still, and all it printed was compared; or until the recording
// ends, which is ErrEnded. Everything else ends it, too: a difference, a stall, the end of the machine or of ctx.
func (p *Player) goOn(ctx context.Context, reached func() bool) error {
	p.mu.Lock()
	resumes := p.resumes
	p.mu.Unlock()
	if err := p.m.Resume(ctx); err != nil {
		return err
	}
	p.Replays++
	hurrying, stop := context.WithCancel(ctx)
	p.tasks.Go(func() { p.m.Hurry(hurrying, p.at.Store) })
	defer stop()
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	p.watch.begin(p.at.Load())
	paused := false
	for {
		p.mu.Lock()
		changed := p.changed
		stopped, ended := p.resumes > resumes && !p.running, p.ended
		p.mu.Unlock()
		if stopped {
			if err := p.drain(ctx); err != nil {
				return err
			}
			if err := p.out.difference(); err != nil {
				return err
			}
			if ended {
				return fmt.Errorf("replay node %s: %w", p.life.Node, ErrEnded)
			}
			return nil
		}
		if !paused && (p.out.difference() != nil || reached != nil && reached()) {
			paused = true
			if err := p.m.Pause(ctx); err != nil {
				return err
			}
		}
		select {
		case <-changed:
		case <-p.m.Done():
			return p.m.Err()
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
			now, err := p.watch.look(p.at.Load())
			if err != nil {
				return p.stalled(err)
			}
			if p.o.Progress != nil {
				p.o.Progress(p.progress(now))
			}
		}
	}
}

// drainWait is how long reading what lies in a file may take.
const drainWait = 20 * time.Second

// drain waits until all that the machine, which stands still, has printed was read.
func (p *Player) drain(ctx context.Context) error {
	late := time.NewTimer(drainWait)
	defer late.Stop()
	for {
		p.mu.Lock()
		changed := p.changed
		p.mu.Unlock()
		whole := true
		for _, s := range p.out.streams {
			info, err := os.Stat(p.file(s.name))
			if err != nil {
				return err
			}
			p.out.mu.Lock()
			whole = whole && s.read >= info.Size()
			p.out.mu.Unlock()
		}
		if whole {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-late.C:
			return fmt.Errorf("replay node %s: what it printed into %s is not read within %s", p.life.Node, p.dir, drainWait)
		}
	}
}

// Place returns where the machine, which stands still, stands.
func (p *Player) Place(ctx context.Context) (Place, error) {
	at, err := p.m.Position(ctx)
	return Place{at, p.out.where()}, err
}

// Progress is how far the machine, which stands still, is.
func (p *Player) Progress(ctx context.Context) (Progress, error) {
	at, err := p.m.Position(ctx)
	if err != nil {
		return Progress{}, err
	}
	offset, err := p.watch.offset()
	return p.progress(sample{offset: offset, instructions: at}), err
}

func (p *Player) progress(s sample) Progress {
	return Progress{Share: min(float64(s.offset)/float64(max(p.size, 1)), 1), Instructions: s.instructions}
}

// A state is one that was saved.
type state struct {
	name string
	Place
}

// Save saves the state of the machine, which stands still, so that Back can go there. Where QEMU cannot, going back starts at the beginning: CannotSave then says why.
func (p *Player) Save(ctx context.Context) error {
	if p.noSave != nil {
		return nil
	}
	at, err := p.Place(ctx)
	if err != nil {
		return err
	}
	p.named++
	s := state{fmt.Sprintf("state-%d", p.named), at}
	if err := p.m.SaveState(ctx, s.name); err != nil {
		if p.m.Err() == nil && ctx.Err() == nil {
			p.noSave = err
			return nil
		}
		return err
	}
	p.saved = append(p.saved, s)
	slices.SortStableFunc(p.saved, func(a, b state) int { return cmp.Compare(a.Instructions, b.Instructions) })
	return nil
}

// CannotSave says why the states of this machine cannot be saved. Nil: as far as was tried they can.
func (p *Player) CannotSave() error { return p.noSave }

// Prune forgets all states that were saved but the last few.
func (p *Player) Prune(ctx context.Context, few int) error {
	for len(p.saved) > few {
		if err := p.m.DeleteState(ctx, p.saved[0].name); err != nil {
			return err
		}
		p.saved = p.saved[1:]
	}
	return nil
}

// Back brings the machine to the last of the saved states that is not beyond so many instructions; without one, to its beginning.
func (p *Player) Back(ctx context.Context, notBeyond int64) error {
	p.mu.Lock()
	again := p.ended || p.running
	p.mu.Unlock()
	i := len(p.saved)
	for i > 0 && p.saved[i-1].Instructions > notBeyond {
		i--
	}
	// A machine that has shut down cannot go on, wherever it is brought to, and one that has stalled does not listen.
	if again || i == 0 {
		if err := p.end(); err != nil {
			return err
		}
		if err := p.start(ctx); err != nil {
			return err
		}
	}
	if i == 0 {
		return nil
	}
	if err := p.drain(ctx); err != nil {
		return err
	}
	if err := p.m.LoadState(ctx, p.saved[i-1].name); err != nil {
		return err
	}
	p.out.rewind(p.saved[i-1].printed, false)
	return nil
}

// forth is runTo for who has gone back, or stopped, before. QEMU 7.2 now and then does not go on from a place that it stopped at: it stopped in the middle of what
// happened there, and its log is one entry ahead. Then the way is gone again from an earlier state, without that stop.
func (p *Player) forth(ctx context.Context, to int64, early func() bool) (bool, error) {
	from, err := p.Place(ctx)
	if err != nil {
		return false, err
	}
	reached, err := p.runTo(ctx, to, early)
	for limit := from.Instructions - 1; errors.Is(err, errNoProgress) && limit >= 0; {
		stalled := err
		// What was saved at that stop has the same flaw.
		i := len(p.saved)
		for i > 0 && p.saved[i-1].Instructions > limit {
			i--
		}
		p.saved = p.saved[:i]
		limit = -1
		if i > 0 {
			limit = p.saved[i-1].Instructions - 1
		}
		if err := p.Back(ctx, math.MaxInt64); err != nil {
			return false, errors.Join(stalled, err)
		}
		reached, err = p.runTo(ctx, to, early)
	}
	return reached, err
}

// warnings passes on what QEMU prints, without what it says of every machine that has no network.
type warnings struct {
	to   io.Writer
	part []byte
}

func (w *warnings) Write(b []byte) (int, error) {
	w.part = append(w.part, b...)
	for {
		end := bytes.IndexByte(w.part, '\n')
		if end < 0 {
			return len(b), nil
		}
		if line := w.part[:end+1]; !bytes.Contains(line, []byte("is not connected to host network")) {
			if _, err := w.to.Write(line); err != nil {
				return 0, err
			}
		}
		w.part = w.part[end+1:]
	}
}
