package images

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// A command is one run of another program.
type command struct {
	dir  string   // where to run it; empty means here
	env  []string // its whole environment; nil means ours
	argv []string
}

// run runs c to its end and returns what it printed on its standard output. The
// error of one that fails says which command it was and all that it printed. When
// ctx ends it is killed, along with what it started.
func (c command) run(ctx context.Context) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, c.argv[0], c.argv[1:]...)
	cmd.Dir, cmd.Env = c.dir, c.env
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	// A grandchild that left the process group may keep the pipes open.
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if err == nil {
		return stdout.String(), nil
	}
	if ctx.Err() != nil {
		return "", fmt.Errorf("%s: %w", c, context.Cause(ctx))
	}
	if errors.Is(err, exec.ErrNotFound) {
		return "", fmt.Errorf("%s is not installed: %w", c.argv[0], err)
	}
	text := strings.TrimSpace(stdout.String() + stderr.String())
	// Where the program ran out of room is its business, that it did so is ours.
	if strings.Contains(strings.ToLower(text), syscall.ENOSPC.Error()) {
		err = fmt.Errorf("%w: %w", err, syscall.ENOSPC)
	}
	return "", &commandError{command: c, text: text, err: err}
}

// String is the command as one would type it.
func (c command) String() string {
	var words []string
	for _, w := range c.argv {
		if w == "" || strings.ContainsAny(w, " \t\n'\"\\$&|;<>()*?[]#~`") {
			w = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
		words = append(words, w)
	}
	line := strings.Join(words, " ")
	if c.dir != "" {
		line = "cd " + c.dir + " && " + line
	}
	return line
}

// A commandError is the end of a program that ran and failed.
type commandError struct {
	command command
	text    string // what it printed, trimmed
	err     error
}

func (e *commandError) Error() string {
	if e.text == "" {
		return fmt.Sprintf("%s: %v", e.command, e.err)
	}
	return fmt.Sprintf("%s: %v\n%s", e.command, e.err, e.text)
}

func (e *commandError) Unwrap() error { return e.err }
