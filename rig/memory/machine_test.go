package memory

import (
	"bufio"
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A made is a machine that never was: its memory, page by page, and what its processor says.
type made struct {
	pages  [][]byte // by number
	kernel []byte   // an uppermost table with only the kernel
	cpu    cpuState
}

// Where the made machine's kernel is said to lie. What is there nobody reads.
var kernelEntries = map[int]uint64{273: 0x7000 | present | writable, 300: 0x8000 | present | writable, 511: 0x9000 | present | writable}

func newMade() *made {
	m := &made{kernel: make([]byte, pageSize)}
	for i, e := range kernelEntries {
		binary.LittleEndian.PutUint64(m.kernel[i*8:], e)
	}
	// Page 0 is nobody's; then the idle processor's table.
	m.page(nil)
	idle := m.page(m.kernel)
	m.cpu = cpuState{Version: cpuVersion, Size: uint32(binary.Size(cpuState{})), CS: cpuSegment{Selector: 0x10}}
	m.cpu.CR[0], m.cpu.CR[3] = cr0Paging, idle
	return m
}

// page adds one and returns its address.
func (m *made) page(content []byte) uint64 {
	page := make([]byte, pageSize)
	copy(page, content)
	m.pages = append(m.pages, page)
	return uint64(len(m.pages)-1) * pageSize
}

// space adds a process and returns its uppermost table.
func (m *made) space() uint64 { return m.page(m.kernel) }

// set puts an entry into the tables of a process: that of an address, at a level, 0 being that of pages of 4 KiB.
func (m *made) set(top, address, e uint64, level int) {
	table := top
	for l := levels - 1; l > level; l-- {
		at := m.pages[table/pageSize][address>>(12+9*l)%entries*8:]
		next := binary.LittleEndian.Uint64(at)
		if next == 0 {
			next = m.page(nil) | present | writable
			binary.LittleEndian.PutUint64(at, next)
		}
		table = next & frame
	}
	binary.LittleEndian.PutUint64(m.pages[table/pageSize][address>>(12+9*level)%entries*8:], e)
}

// user adds the upmost page of a thread's stack in the kernel.
func (m *made) user(r Registers) {
	var out bytes.Buffer
	_ = binary.Write(&out, binary.LittleEndian, r)
	page := make([]byte, pageSize)
	copy(page[pageSize-out.Len():], out.Bytes())
	m.page(page)
}

// dump is the machine's memory as QEMU writes it.
func (m *made) dump() []byte {
	var note bytes.Buffer
	_ = binary.Write(&note, binary.LittleEndian, m.cpu)
	return makeCore(elf.ET_CORE, elf.EM_X86_64, makeNote(cpuNote, 0, note.Bytes()), elf.Prog64{}, bytes.Join(m.pages, nil))
}

// makeCore makes a core with notes, and memory from where load says.
func makeCore(kind elf.Type, arch elf.Machine, notes []byte, load elf.Prog64, content []byte) []byte {
	const at = 64 + 2*56
	header := elf.Header64{Type: uint16(kind), Machine: uint16(arch), Version: uint32(elf.EV_CURRENT), Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 2}
	copy(header.Ident[:], elf.ELFMAG)
	header.Ident[elf.EI_CLASS], header.Ident[elf.EI_DATA], header.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)
	load.Type, load.Off = uint32(elf.PT_LOAD), uint64(at+len(notes))
	if load.Filesz == 0 {
		load.Filesz, load.Memsz = uint64(len(content)), uint64(len(content))
	}
	var out bytes.Buffer
	for _, part := range []any{header, elf.Prog64{Type: uint32(elf.PT_NOTE), Off: at, Filesz: uint64(len(notes)), Memsz: uint64(len(notes))}, load, notes, content} {
		_ = binary.Write(&out, binary.LittleEndian, part)
	}
	return out.Bytes()
}

func makeNote(owner string, kind uint32, desc []byte) []byte {
	var out bytes.Buffer
	for _, v := range []uint32{uint32(len(owner) + 1), uint32(len(desc)), kind} {
		_ = binary.Write(&out, binary.LittleEndian, v)
	}
	for _, b := range [][]byte{append([]byte(owner), 0), desc} {
		out.Write(b)
		out.Write(make([]byte, -len(b)&3))
	}
	return out.Bytes()
}

// parked is a real process of testdata/parked: how it told its goroutines, what it has in memory, and its threads' registers.
type parked struct {
	binary  string
	told    string
	pid     int
	pages   map[uint64][]byte // those that it has touched, by address
	rights  map[uint64]uint64 // of their entries
	threads []unix.PtraceRegs
	traced  []int
}

// park starts it, reads it while it stands still, and ends it.
func park(t *testing.T) *parked {
	t.Helper()
	if runtime.GOARCH != "amd64" {
		t.Skip("reads a process of amd64, and this host is " + runtime.GOARCH)
	}
	dir := t.TempDir()
	p := &parked{binary: filepath.Join(dir, "parked"), pages: map[uint64][]byte{}, rights: map[uint64]uint64{}}
	build := exec.Command("go", "build", "-buildvcs=false", "-trimpath", "-ldflags=-B 0x0123456789abcdef0123456789abcdef01234567", "-o", p.binary, "./testdata/parked")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	told := filepath.Join(dir, "told")
	cmd := exec.CommandContext(t.Context(), p.binary, told, "two words")
	// One goroutine spins, and the thread that does must not be found in a signal's handler instead.
	cmd.Env = append(os.Environ(), "GODEBUG=asyncpreemptoff=1", "GOMAXPROCS=2", "GOTRACEBACK=single")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	// Its tracer is one thread, to the end.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("it said %q, %v", line, err)
	}
	text, err := os.ReadFile(told)
	if err != nil {
		t.Fatal(err)
	}
	p.told, p.pid = string(text), cmd.Process.Pid
	// A thread that is traced to its end keeps its process from ending.
	defer p.letGo()
	p.stop(t)
	p.readMemory(t)
	return p
}

// stop has all threads stand still, and reads their registers.
func (p *parked) stop(t *testing.T) {
	t.Helper()
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", p.pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		tid, err := strconv.Atoi(task.Name())
		if err == nil {
			if err = unix.PtraceSeize(tid); errors.Is(err, unix.EPERM) {
				t.Skipf("this host lets nobody trace a process of one's own (kernel.yama.ptrace_scope, or a container's rules): %v", err)
			}
		}
		if err == nil {
			err = unix.PtraceInterrupt(tid)
		}
		if err == nil {
			_, err = unix.Wait4(tid, nil, unix.WALL, nil)
		}
		var r unix.PtraceRegs
		if err == nil {
			err = unix.PtraceGetRegs(tid, &r)
		}
		if err != nil {
			t.Fatalf("trace thread %s: %v", task.Name(), err)
		}
		p.threads, p.traced = append(p.threads, r), append(p.traced, tid)
	}
}

func (p *parked) letGo() {
	for _, tid := range p.traced {
		_ = unix.PtraceDetach(tid)
	}
}

func (p *parked) readMemory(t *testing.T) {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", p.pid))
	if err != nil {
		t.Fatal(err)
	}
	memory, err := os.Open(fmt.Sprintf("/proc/%d/mem", p.pid))
	if err != nil {
		t.Fatal(err)
	}
	defer memory.Close()
	touched, err := os.Open(fmt.Sprintf("/proc/%d/pagemap", p.pid))
	if err != nil {
		t.Fatal(err)
	}
	defer touched.Close()
	for line := range strings.Lines(string(maps)) {
		var from, to uint64
		var rights string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &rights); err != nil {
			t.Fatal(err)
		}
		if rights[0] != 'r' || strings.Contains(line, "[v") {
			continue
		}
		e := uint64(present)
		if rights[1] == 'w' {
			e |= writable
		}
		if rights[2] != 'x' {
			e |= noExecute
		}
		there := make([]byte, (to-from)/pageSize*8)
		if _, err := touched.ReadAt(there, int64(from/pageSize*8)); err != nil {
			t.Fatal(err)
		}
		for address := from; address < to; address += pageSize {
			if binary.LittleEndian.Uint64(there[(address-from)/pageSize*8:])>>62 == 0 {
				continue
			}
			page := make([]byte, pageSize)
			if _, err := memory.ReadAt(page, int64(address)); err != nil {
				t.Fatal(err)
			}
			p.pages[address], p.rights[address] = page, e
		}
	}
}

// on lays the process out on a made machine and returns its uppermost table. Its threads are all in the kernel.
func (p *parked) on(m *made) uint64 {
	top := m.space()
	var addresses []uint64
	for address := range p.pages {
		addresses = append(addresses, address)
	}
	slices.Sort(addresses)
	for _, address := range addresses {
		m.set(top, address, m.page(p.pages[address])|p.rights[address], 0)
	}
	for _, r := range p.threads {
		m.user(saved(r))
	}
	return top
}

// saved are registers as the kernel saves them.
func saved(r unix.PtraceRegs) Registers {
	return Registers{
		R15: r.R15, R14: r.R14, R13: r.R13, R12: r.R12, BP: r.Rbp, BX: r.Rbx, R11: r.R11, R10: r.R10, R9: r.R9, R8: r.R8, AX: r.Rax, CX: r.Rcx,
		DX: r.Rdx, SI: r.Rsi, DI: r.Rdi, OrigAX: r.Orig_rax, IP: r.Rip, CS: r.Cs, Flags: r.Eflags | 1<<9, SP: r.Rsp, SS: r.Ss,
	}
}
