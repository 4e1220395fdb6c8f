package machine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Save stops the machine and writes its state, all but its memory, to file. The
// memory is in Spec.RAM, which must be Shared; the file is complete with it once
// the process has ended. Save consumes the machine's events.
func (m *Machine) Save(ctx context.Context, file *os.File) error {
	if err := m.Run(ctx, "stop", nil, nil); err != nil {
		return fmt.Errorf("save machine %s: %w", m.spec.Name, err)
	}
	if err := m.migrate(ctx, "migrate", file); err != nil {
		return fmt.Errorf("save machine %s: %w", m.spec.Name, err)
	}
	return nil
}

// Restore reads a state that Save wrote into a machine that was started with
// Incoming on the same kind of hardware, over the same memory. It then is where
// the saved one was, and stopped. Restore consumes the machine's events while it
// lasts.
func (m *Machine) Restore(ctx context.Context, file *os.File) error {
	// A machine that was moved tells its network where it is now. This one is new
	// there, and what it would tell is the address of the saved one.
	silent := map[string]int{"announce-rounds": 0}
	err := m.Run(ctx, "migrate-set-parameters", silent, nil)
	if err == nil {
		err = m.migrate(ctx, "migrate-incoming", file)
	}
	if err != nil {
		return fmt.Errorf("restore machine %s: %w", m.spec.Name, err)
	}
	return nil
}

// migrate moves the state through a file. Memory is left out (x-ignore-shared),
// which is what makes it quick: it is mapped, not copied.
func (m *Machine) migrate(ctx context.Context, command string, file *os.File) error {
	type capability struct {
		Capability string `json:"capability"`
		State      bool   `json:"state"`
	}
	err := m.Run(ctx, "migrate-set-capabilities", map[string]any{
		"capabilities": []capability{{"events", true}, {"x-ignore-shared", true}},
	}, nil)
	if err != nil {
		return err
	}
	if err := m.giveFile(ctx, "state", file); err != nil {
		return err
	}
	if err := m.Run(ctx, command, map[string]string{"uri": "fd:state"}, nil); err != nil {
		return err
	}
	for {
		select {
		case e, ok := <-m.events:
			if !ok {
				<-m.done
				return m.err
			}
			if e.Name != "MIGRATION" {
				continue
			}
			switch e.Data["status"] {
			case "completed":
				return nil
			case "failed", "cancelled":
				return m.Cause(errors.New("QEMU says that it " + fmt.Sprint(e.Data["status"])))
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// giveFile hands an open file to QEMU under a name. The file stays the caller's, who may
// close it when giveFile returns.
func (m *Machine) giveFile(ctx context.Context, name string, file *os.File) error {
	command, err := json.Marshal(map[string]any{"execute": "getfd", "arguments": map[string]string{"fdname": name}})
	if err != nil {
		return err
	}
	// A copy, since what is asked may still go on when ctx has ended.
	fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("give QEMU %s: %w", file.Name(), err)
	}
	own := os.NewFile(uintptr(fd), file.Name())
	_, err = m.converse(ctx, "getfd", func() ([]byte, error) {
		defer own.Close()
		data, err := m.monitor.RunWithFile(command, own)
		return bytes.Clone(data), err
	})
	return err
}

// Memory returns an open file without a name that holds data, for Files.Handover.
func Memory(name string, data []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make a file in memory: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := f.Write(data); err != nil {
		return nil, errors.Join(fmt.Errorf("make a file in memory: %w", err), f.Close())
	}
	return f, nil
}
