package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"dsoftbus-rig/rig/console"
	"dsoftbus-rig/rig/machine"
	"dsoftbus-rig/rig/memory"
	"dsoftbus-rig/rig/ownport"
	"dsoftbus-rig/rig/replay"
)

// debug has gdb look at the machine, here or wherever it connects from, until it has hung up.
func (v *visit) debug(ctx context.Context, p *replay.Player) error {
	if why := p.CannotSave(); why != nil {
		v.voice.say("going back does not work with this QEMU: " + console.Clean(why.Error()) + "\nreverse-continue and the like will fail; -until stops earlier")
	}
	l, err := listen(v.cmd, v.flags.port, ownport.GDB, true, func(why string) { v.voice.say(refusal(why)) })
	if err != nil {
		return err
	}
	defer l.Close()
	client, err := v.gdb(ctx, p, l.Addr().String())
	if err != nil {
		return err
	}
	p.Mute() // gdb goes where it likes
	stub, err := p.Machine().GDB(ctx)
	if err != nil {
		return err
	}
	var hurrying sync.WaitGroup
	defer hurrying.Wait()
	ctx, leave := context.WithCancelCause(ctx)
	defer leave(nil)
	hurrying.Go(func() { p.Machine().Hurry(ctx, func(int64) {}) })
	if (&debugFlags{listen: v.flags.listen}).opens() && client.argv != nil {
		onInterrupt(v.cmd.Context(), func() bool { return true }) // Ctrl-C is gdb's
		defer onInterrupt(v.cmd.Context(), nil)
		wait, err := client.start(ctx)
		if err != nil {
			return errors.Join(err, stub.Close())
		}
		defer wait()
		defer leave(nil)
		go func() {
			wait()
			leave(errOver)
		}()
	} else {
		v.voice.print(strings.Join(client.how, "\n"))
	}
	return unlessInterrupted(v.cmd, passOne(ctx, l, stub, p.Machine()))
}

// passOne passes one connection on to the machine's stub, until either hangs up, the machine has ended, or ctx ends. It closes stub.
func passOne(ctx context.Context, l net.Listener, stub net.Conn, m *machine.Machine) error {
	defer stub.Close()
	defer context.AfterFunc(ctx, func() { l.Close(); stub.Close() })()
	conn, err := l.Accept()
	if err != nil {
		if ctx.Err() == nil {
			return fmt.Errorf("wait for gdb on %s: %w", l.Addr(), err)
		}
		if cause := context.Cause(ctx); !errors.Is(cause, errOver) {
			return cause
		}
		return nil
	}
	defer conn.Close()
	over := make(chan struct{}, 2)
	pass := func(to io.Writer, from io.Reader) {
		_, _ = io.Copy(to, from) // either end sees how it ends
		over <- struct{}{}
	}
	go pass(stub, conn)
	go pass(conn, stub)
	select {
	case <-over:
	case <-m.Done():
	case <-ctx.Done():
	}
	conn.Close()
	stub.Close()
	<-over
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, errOver) {
		return cause
	}
	return nil
}

// gdb is gdb on the programs or the kernel of a machine whose stub is at an address: a socket's path, or a host and a port.
func (v *visit) gdb(ctx context.Context, p *replay.Player, address string) (client, error) {
	argv := []string{"gdb", "-q"}
	ex := func(command string) { argv = append(argv, "-ex", command) }
	// In 2 s, which is what gdb waits for an answer, QEMU has not always read the question on a busy host; asked again, it answers twice.
	ex("set remotetimeout 60")
	if v.flags.gdb == gdbKernel {
		ex("target remote " + address)
		if v.flags.symbols != "" {
			symbols, err := filepath.Abs(v.flags.symbols)
			if err != nil {
				return client{}, err
			}
			argv = append(argv, symbols)
		}
	} else {
		binary, err := v.binaryFile()
		if err != nil {
			return client{}, err
		}
		if dir, err := project(v.cmd); err == nil {
			ex("set substitute-path dsoftbus-rig " + dir)
		}
		if script, sources := goRuntimeGDB(ctx); script != "" {
			ex("directory " + sources)
			ex("source " + script)
		}
		ex("target remote " + address)
		argv = append(argv, binary)
	}
	var words []string
	for _, word := range argv {
		words = append(words, machine.Quote(word))
	}
	c := client{how: []string{strings.Join(words, " ")}, argv: argv}
	if _, err := exec.LookPath("gdb"); err != nil {
		c.argv = nil
	}
	return c, nil
}

// variablePrefix begins what -find looks for in a program.
const variablePrefix = "gdb:"

// variable is the hunt for a value in a program. What gdb evaluates is a core of that program, made of the machine's memory: so it does not matter which program
// the processor is at.
func (v *visit) variable() (h replay.Hunt, err error) {
	program, expression, ok := strings.Cut(strings.TrimPrefix(v.flags.find, variablePrefix), ":")
	if !ok || program == "" || expression == "" {
		return h, usage("replay -find %s: say gdb:PROGRAM:EXPRESSION", v.flags.find)
	}
	if _, err := exec.LookPath("gdb"); err != nil {
		return h, usage("replay -find gdb:…: there is no gdb here: %w", err)
	}
	file, err := v.binaryFile()
	if err != nil {
		return h, err
	}
	binary, err := memory.OpenBinary(file)
	if err != nil {
		return h, usage("%w; -binary names another", err)
	}
	h.Holds = func(ctx context.Context, p *replay.Player) (holds bool, err error) {
		dir, err := os.MkdirTemp("", "rig-replay-core-")
		if err != nil {
			return false, err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
		dump, core := filepath.Join(dir, "machine"), filepath.Join(dir, "program")
		if err := p.Machine().Dump(ctx, dump); err != nil {
			return false, err
		}
		found, err := coreOf(dump, core, binary, program)
		if err != nil || !found {
			return false, err
		}
		return evaluate(ctx, file, core, expression)
	}
	return h, nil
}

// coreOf writes a core of a program in a dump; found is false when it does not run there.
func coreOf(dump, core string, binary *memory.Binary, program string) (found bool, err error) {
	d, err := memory.Open(dump)
	if err != nil {
		// Before the kernel has set up its page tables there is nothing that could be read, and no program.
		return false, nil
	}
	defer d.Close()
	all, _ := d.Programs(binary) // none, in a machine that boots; one that begins or ends may be unreadable
	named := programsNamed(all, program)
	if len(named) == 0 {
		return false, nil
	}
	return true, named[0].WriteCore(core)
}

// evaluate has gdb evaluate an expression, and reports whether it is anything but false, zero or nil.
func evaluate(ctx context.Context, binary, core, expression string) (bool, error) {
	var out, said bytes.Buffer
	cmd := exec.CommandContext(ctx, "gdb", "-nx", "-q", "-batch", "-ex", "output "+expression, binary, core)
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil && ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	// Before the value gdb says what the core is of.
	text := out.String()
	if i := strings.LastIndexByte(text, '\n'); i >= 0 {
		text = text[i+1:]
	}
	switch text {
	case "":
		why := strings.TrimSpace(said.String())
		if strings.Contains(why, "Cannot access memory") {
			return false, nil // it is not there yet, or leads nowhere
		}
		return false, usage("replay -find: gdb does not evaluate %s: %s", expression, why)
	case "false", "0", "0x0", "nil":
		return false, nil
	}
	return true, nil
}
