package memory

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// goroutines are those of a text that Go has printed, or this package, by their ids: without arguments of functions.
func goroutines(text string) map[string]string {
	all := map[string]string{}
	for _, one := range strings.Split(strings.TrimSpace(text), "\n\n") {
		head, rest, _ := strings.Cut(one, "\n")
		id := strings.Fields(head)[1]
		out := head + "\n"
		for line := range strings.Lines(rest) {
			if i := strings.LastIndexByte(line, '('); i >= 0 && line[0] != '\t' && !strings.HasPrefix(line, "created by") {
				line = line[:i] + "(...)\n"
			}
			out += line
		}
		all[id] = strings.TrimSpace(out)
	}
	return all
}

// opened is a dump from memory.
func opened(t testing.TB, data []byte) *Dump {
	t.Helper()
	d, err := open(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// What a dump tells of a process is what the process itself told, to the letter: of all goroutines that stood already.
func TestStacks(t *testing.T) {
	p := park(t)
	b, err := OpenBinary(p.binary)
	if err != nil {
		t.Fatal(err)
	}
	if b.BuildID() != "0123456789abcdef0123456789abcdef01234567" {
		t.Errorf("build id %q", b.BuildID())
	}
	m := newMade()
	top := p.on(m)
	stranger := m.space() // of another program, at the same address
	m.set(stranger, 0x401000, m.page([]byte("another"))|present, 0)

	check := func(t *testing.T) {
		t.Helper()
		all, err := opened(t, m.dump()).Programs(b)
		if err != nil || len(all) != 1 {
			t.Fatalf("%d programs, %v", len(all), err)
		}
		got := all[0]
		if got.PID != p.pid || got.Name() != "parked" || len(got.Args) != 3 || got.Args[2] != "two words" {
			t.Errorf("process %d, arguments %q; it was %d", got.PID, got.Args, p.pid)
		}
		text, err := got.Stacks()
		if err != nil {
			t.Fatal(err)
		}
		want, told := goroutines(p.told), goroutines(string(text))
		if spins := told[spinner(told)]; !strings.HasPrefix(spins, "goroutine ") || !strings.Contains(spins, "[running]:\nmain.spins(...)\n") {
			t.Errorf("the one that runs:\n%s", spins)
		}
		delete(told, spinner(told))
		// It has gone on since.
		if one := told["1"]; !strings.HasPrefix(one, "goroutine 1 [") || !strings.Contains(one, "\nmain.main(...)\n") {
			t.Errorf("main:\n%s", one)
		}
		delete(want, "1")
		delete(told, "1")
		if len(want) < 8 {
			t.Errorf("it told only %d: %s", len(want), p.told)
		}
		if diff := cmp.Diff(want, told); diff != "" {
			t.Errorf("what it told, and what the dump tells:\n%s", diff)
		}
	}
	t.Run("in the kernel", check)
	t.Run("on the processor", func(t *testing.T) {
		// What the kernel has of that thread is then of long ago.
		r := running(t, p, b)
		m.cpu.CR[3] = top
		m.cpu.CS.Selector, m.cpu.FS.Base = userCS, r.Fs_base
		m.cpu.IP, m.cpu.SP, m.cpu.BP, m.cpu.R14 = r.Rip, r.Rsp, r.Rbp, r.R14
		old := saved(r)
		old.IP, old.SP = 1, old.SP+8
		m.user(old)
		check(t)
	})
	t.Run("without its build id", func(t *testing.T) {
		m.set(top, b.idNote, 0, 0)
		check(t)
	})
	t.Run("of another source", func(t *testing.T) {
		other := *b
		other.id = strings.Repeat("0", 40)
		m.set(top, b.idNote, m.page(p.pages[b.idNote&^(pageSize-1)])|present, 0)
		_, err := opened(t, m.dump()).Programs(&other)
		if err == nil || !strings.Contains(err.Error(), "whose build id is 0000") || !strings.Contains(err.Error(), "those that tell theirs have 0123456789abcdef") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("of other code", func(t *testing.T) {
		other := *b
		other.text.data = bytes.Repeat([]byte{0xcc}, len(b.text.data))
		if _, err := opened(t, m.dump()).Programs(&other); err == nil || !strings.Contains(err.Error(), "of the same source") {
			t.Errorf("got %v", err)
		}
	})
}

// spinner is the id of the goroutine that runs.
func spinner(all map[string]string) string {
	for id, text := range all {
		if strings.Contains(text, "main.spins") || strings.Contains(text, "[running]") {
			return id
		}
	}
	return ""
}

// running returns the registers of the thread that runs main.spins.
func running(t *testing.T, p *parked, b *Binary) (found unix.PtraceRegs) {
	t.Helper()
	for _, r := range p.threads {
		if f, ok := b.functions.find(r.Rip); ok && b.functions.name(f) == "main.spins" {
			return r
		}
	}
	t.Fatal("no thread runs main.spins")
	return found
}

// A goroutine whose registers cannot be found has no stack, and says so; nor is one guessed when there are two.
func TestRegistersThatAreNotFound(t *testing.T) {
	p := park(t)
	b, err := OpenBinary(p.binary)
	if err != nil {
		t.Fatal(err)
	}
	check := func(m *made) {
		t.Helper()
		all, err := opened(t, m.dump()).Programs(b)
		if err != nil {
			t.Fatal(err)
		}
		text, err := all[0].Stacks()
		if err != nil || !strings.Contains(string(text), "[running]:\n\t(it runs, and its registers are somewhere in the kernel; stack unavailable)\ncreated by main.main in goroutine 1\n") {
			t.Errorf("%v\n%s", err, text)
		}
	}
	r := running(t, p, b)
	twice := newMade()
	p.on(twice)
	other := saved(r)
	other.SP += 8
	twice.user(other)
	check(twice)

	p.threads = nil
	none := newMade()
	p.on(none)
	check(none)
}

// Memory that is not what it should be is an error, or a stack that ends early, and always comes to an end.
func TestCorruptMemory(t *testing.T) {
	p := park(t)
	b, err := OpenBinary(p.binary)
	if err != nil {
		t.Fatal(err)
	}
	m := newMade()
	top := p.on(m)
	whole := m.dump()
	base := len(whole) - len(m.pages)*pageSize
	at := func(d []byte, address uint64) []byte {
		t.Helper()
		all := opened(t, whole)
		in, err := (&space{dump: all, top: top, pages: map[uint64]uint64{}}).physical(address)
		if err != nil {
			t.Fatal(err)
		}
		return d[uint64(base)+in:]
	}
	for _, c := range []struct {
		name, want string
		change     func(d []byte)
	}{
		{"goroutines without end", "more than the machine has memory for", func(d []byte) {
			binary.LittleEndian.PutUint64(at(d, b.symbols["allglen"]), 1<<40)
		}},
		{"goroutines nowhere", "is not in the dump", func(d []byte) { binary.LittleEndian.PutUint64(at(d, b.symbols["allgs"]), 1<<46) }},
		{"threads in a circle", "so that list is corrupt", func(d []byte) {
			f, err := b.field("runtime.m", "alllink")
			if err != nil {
				t.Fatal(err)
			}
			m0 := b.symbols["m0"]
			binary.LittleEndian.PutUint64(at(d, m0+f.offset), m0)
		}},
		{"arguments nowhere", "arguments of a program: ", func(d []byte) { binary.LittleEndian.PutUint64(at(d, b.symbols["argv"]), 1<<46) }},
	} {
		d := bytes.Clone(whole)
		c.change(d)
		all, err := opened(t, d).Programs(b)
		if err == nil {
			_, err = all[0].Stacks()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}

	// A goroutine whose stack leads away from where it is has what it has up to there.
	d := bytes.Clone(whole)
	list := binary.LittleEndian.Uint64(at(d, b.symbols["allgs"]))
	main := binary.LittleEndian.Uint64(at(d, list))
	pointer, err := b.field("runtime.g", "sched", "sp")
	if err != nil {
		t.Fatal(err)
	}
	binary.LittleEndian.PutUint64(at(d, main+pointer.offset), list)
	all, err := opened(t, d).Programs(b)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := all[0].Stacks(); err != nil || !regexp.MustCompile(`^goroutine 1 \[.*\n.*\n.*\n\t\(the frame at 0x[0-9a-f]+ is not on its stack, .*\n\ngoroutine `).Match(text) {
		t.Errorf("a stack elsewhere: %v\n%.400s", err, text)
	}

	// One that cannot be read does not take the others along.
	d = bytes.Clone(whole)
	binary.LittleEndian.PutUint64(at(d, list+8), 1<<46)
	if all, err = opened(t, d).Programs(b); err != nil {
		t.Fatal(err)
	}
	if text, err := all[0].Stacks(); err == nil || !strings.Contains(err.Error(), ": 1 of ") || !strings.Contains(string(text), "main.outer(...)") {
		t.Errorf("with one that is nowhere: %v\n%.400s", err, text)
	}

	// Anything anywhere, in what was written by the program or the kernel.
	random := rand.New(rand.NewPCG(1, 2))
	told := 0
	for range 60 {
		d := bytes.Clone(whole)
		for range 2000 {
			in := base + random.IntN(len(d)-base-8)
			switch random.IntN(3) {
			case 0:
				binary.LittleEndian.PutUint64(d[in&^7:], random.Uint64())
			case 1:
				copy(d[in:], make([]byte, 8))
			default:
				d[in] ^= byte(1 << random.IntN(8))
			}
		}
		all, err := opened(t, d).Programs(b)
		if err != nil {
			continue
		}
		for _, one := range all {
			if text, err := one.Stacks(); err == nil && len(text) > 0 {
				told++
			}
			_, _ = one.ranges()
			_, _ = one.notes()
		}
	}
	t.Logf("%d of 60 still told their goroutines", told)
}

// What is executed next is on its own line, what is returned to on that of the call before it.
func TestLines(t *testing.T) {
	p := park(t)
	b, err := OpenBinary(p.binary)
	if err != nil {
		t.Fatal(err)
	}
	m := newMade()
	top := p.on(m)
	d := opened(t, m.dump())
	one := &Program{dump: d, binary: b, space: &space{dump: d, top: top, pages: map[uint64]uint64{}}}
	f, ok := b.functions.find(running(t, p, b).Rip)
	if !ok {
		t.Fatal("no function")
	}
	for pc := f.entry + 1; ; pc++ {
		if g, ok := b.functions.find(pc); !ok || g.entry != f.entry {
			t.Fatal("all of it is one line")
		}
		_, before := b.functions.where(f, pc-1)
		_, here := b.functions.where(f, pc)
		if before == here {
			continue
		}
		for trap, want := range map[bool]int32{true: here, false: before} {
			if frames, _ := one.unwind(pc, 0, stack{}, trap, false); len(frames) != 1 || frames[0].calls[0].line != want {
				t.Errorf("with trap %t: %+v, want line %d", trap, frames, want)
			}
		}
		return
	}
}

// A core has the program's memory and its threads, and is a new file.
func TestWriteCore(t *testing.T) {
	p := park(t)
	b, err := OpenBinary(p.binary)
	if err != nil {
		t.Fatal(err)
	}
	m := newMade()
	p.on(m)
	all, err := opened(t, m.dump()).Programs(b)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "core")
	if err := all[0].WriteCore(file); err != nil {
		t.Fatal(err)
	}
	if err := all[0].WriteCore(file); err == nil || !strings.Contains(err.Error(), "is there already; name another file") {
		t.Errorf("over another: %v", err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	f, err := elf.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for address, page := range p.pages {
		got := make([]byte, pageSize)
		found := false
		for _, prog := range f.Progs {
			if prog.Type == elf.PT_LOAD && address >= prog.Vaddr && address < prog.Vaddr+prog.Filesz {
				_, err := prog.ReadAt(got, int64(address-prog.Vaddr))
				found = err == nil && !found
			}
		}
		if !found || !bytes.Equal(got, page) {
			t.Fatalf("the page at %#x is not in it, or not once (%t)", address, found)
		}
	}
	data := make([]byte, f.Progs[0].Filesz)
	if _, err := f.Progs[0].ReadAt(data, 0); err != nil {
		t.Fatal(err)
	}
	var threads []string
	for n := range notes(data) {
		var s threadStatus
		if n.kind == noteStatus {
			if _, err := binary.Decode(n.desc, binary.LittleEndian, &s); err != nil || len(n.desc) != 336 {
				t.Fatalf("%d bytes of a thread, %v", len(n.desc), err)
			}
			threads = append(threads, fmt.Sprintf("%x %x %x", s.FSBase, s.Registers.IP, s.Registers.SP))
		}
	}
	for _, r := range p.threads {
		if one := fmt.Sprintf("%x %x %x", r.Fs_base, r.Rip, r.Rsp); !strings.Contains(strings.Join(threads, "\n"), one) {
			t.Errorf("no thread %s among\n%s", one, strings.Join(threads, "\n"))
		}
	}
}

// Names as the runtime prints them, and which it prints.
func TestShown(t *testing.T) {
	b := &Binary{constants: map[string]int64{
		"internal/abi.FuncIDWrapper": 23, "internal/abi.FuncID_gopanic": 10, "internal/abi.FuncID_sigpanic": 20, "internal/abi.FuncID_panicwrap": 15,
		"internal/abi.FuncID_runFinalizers": 18, "internal/abi.FuncID_runCleanups": 19,
	}}
	for _, c := range []struct {
		call   call
		first  bool
		callee int64
		shown  bool
		name   string
	}{
		{call{name: "main.main"}, true, 0, true, "main.main"},
		{call{name: "main.(*box[go.shape.int]).waits"}, true, 0, true, "main.(*box[...]).waits"},
		{call{name: "runtime.gopark"}, true, 0, false, "runtime.gopark"},
		{call{name: "runtime.Gosched"}, true, 0, true, "runtime.Gosched"},
		{call{name: "runtime.(*Frames).Next"}, true, 0, true, "runtime.(*Frames).Next"},
		{call{name: "runtime.(*mheap).Next"}, true, 0, false, "runtime.(*mheap).Next"},
		{call{name: "runtime.gopanic"}, false, 0, true, "panic"},
		{call{name: "runtime.gopanic"}, true, 0, false, "panic"},
		{call{name: "main.T.F", id: 23}, false, 0, false, "main.T.F"},
		{call{name: "main.T.F", id: 23}, false, 15, true, "main.T.F"},
		{call{name: "runtime.runFinalizers", id: 18}, false, 0, true, "runtime.runFinalizers"},
		{call{name: "gosave"}, false, 0, false, "gosave"},
	} {
		if got := b.shows(c.call, c.first, c.callee); got != c.shown || printed(c.call.name) != c.name {
			t.Errorf("%+v: %t, %s", c, got, printed(c.call.name))
		}
	}
}
