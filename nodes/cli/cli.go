// Package cli holds what the programs with commands have in common: wrong usage, and how it ends a program. It prints nothing of its
// own but errors, and knows no command.
package cli

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
)

// A UsageError is wrong usage: exit status 2.
type UsageError struct{ error }

// Unwrap returns what is wrong.
func (e UsageError) Unwrap() error { return e.error }

// Usagef makes a UsageError.
func Usagef(format string, args ...any) error { return UsageError{fmt.Errorf(format, args...)} }

// Status prints why a program ends, if there is anything to say, and returns its exit status: 0 also for help, 2 for wrong usage, else
// 1.
func Status(program string, err error, stderr io.Writer) int {
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return 0
	}
	fmt.Fprintf(stderr, "%s: %v\n", program, err)
	if _, wrong := errors.AsType[UsageError](err); wrong {
		return 2
	}
	return 1
}

// ParseFlags makes a wrong flag wrong usage, and silences package flag's own report of it, which Status would repeat. help prints what
// -h asks for; the error is then flag.ErrHelp.
func ParseFlags(flags *flag.FlagSet, args []string, help func()) error {
	out := flags.Output()
	flags.SetOutput(io.Discard)
	err := flags.Parse(args)
	flags.SetOutput(out)
	if errors.Is(err, flag.ErrHelp) {
		help()
		return err
	}
	if err != nil {
		return UsageError{err}
	}
	return nil
}

// Find returns the command called name. None, or one that is not there, is wrong usage.
func Find[C any](commands []C, nameOf func(*C) string, name string) (*C, error) {
	var names []string
	for i := range commands {
		c := &commands[i]
		if nameOf(c) == name {
			return c, nil
		}
		names = append(names, nameOf(c))
	}
	if name == "" {
		return nil, Usagef("no command; there are %s", strings.Join(names, ", "))
	}
	return nil, Usagef("unknown command %q; there are %s", name, strings.Join(names, ", "))
}
