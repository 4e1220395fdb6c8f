package live

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"dsoftbus-rig/rig/console"
)

// statusWait is how long List waits for a scenario to say where it stands: one that does not is as good as none.
const statusWait = 2 * time.Second

// Alive is a scenario that was found.
type Alive struct {
	Name   string // of its socket
	PID    int    // of the process that has started it, by that name
	Status Status
	Err    error // why there is no status
}

// Run is what the run is called: its folder's name.
func (a *Alive) Run() string { return filepath.Base(a.Status.Run) }

// String names the scenario so that Find finds it, and no other one.
func (a *Alive) String() string { return a.Run() + "/" + a.Status.Scenario }

// List returns the scenarios of this user that are alive, the oldest first; root's own for root. Those that end meanwhile are left out;
// those that do not say where they stand come last, with why.
func List(ctx context.Context) ([]Alive, error) {
	all, err := sockets()
	if err != nil {
		return nil, fmt.Errorf("find scenarios that are alive: %w", err)
	}
	found := make([]*Alive, len(all))
	var asking sync.WaitGroup
	for i, name := range all {
		asking.Go(func() { found[i] = look(ctx, name) })
	}
	asking.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	var out []Alive
	for _, a := range found {
		if a != nil {
			out = append(out, *a)
		}
	}
	slices.SortFunc(out, func(a, b Alive) int {
		return cmp.Or(order(a.Err != nil, b.Err != nil), a.Status.Started.Compare(b.Status.Started), cmp.Compare(a.Name, b.Name))
	})
	return out, nil
}

func order(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// look asks the scenario with that name where it stands; nil when it is gone.
func look(ctx context.Context, name string) *Alive {
	ctx, cancel := context.WithTimeoutCause(ctx, statusWait, fmt.Errorf("it does not answer within %s", statusWait))
	defer cancel()
	a := &Alive{Name: name}
	a.PID, _, _ = maker(name) // sockets has looked at it
	c, err := Open(name)
	if err == nil {
		a.Status, err = c.Status(ctx)
	}
	var said *Error
	if errors.As(err, &said) && (said.Class == Lost || said.Class == Ended) {
		return nil
	}
	a.Err = err
	return a
}

// A FindError says why Find has not found the one scenario that was meant.
type FindError struct {
	Pattern string  // empty: none was given
	Alive   []Alive // those that it may have meant; with Several all of them match
	Several bool
	Silent  []Alive // those that do not say where they stand
}

func (e *FindError) Error() string {
	var b strings.Builder
	switch {
	case e.Several && e.Pattern == "":
		fmt.Fprintf(&b, "%d scenarios are running; name one with -run:", len(e.Alive))
	case e.Several:
		fmt.Fprintf(&b, "%d running scenarios match %q; name one with -run:", len(e.Alive), e.Pattern)
	case len(e.Alive) > 0:
		fmt.Fprintf(&b, "no running scenario matches %q; there are:", e.Pattern)
	default:
		b.WriteString("no scenario is running; start one with `rig run PATTERN`, in another terminal, and ask while it runs")
	}
	for i := range e.Alive {
		// A name with a line end in it could pass for a line of this list.
		fmt.Fprintf(&b, "\n  %s", console.Clean(e.Alive[i].String()))
		if source := e.Alive[i].Status.Source; source != "" && e.Several {
			fmt.Fprintf(&b, "  (of %s)", source)
		}
	}
	for _, a := range e.Silent {
		fmt.Fprintf(&b, "\n  process %d does not say what it plays: %v", a.PID, a.Err)
	}
	return b.String()
}

// Found is the scenario that Find has chosen.
type Found struct {
	Alive
	Others int // scenarios of other projects that the pattern matches as well
}

// Find returns the scenario of this user that a pattern means. The pattern is
// the name of its run's folder, its own, or both with a slash in between, or a
// part of these; one that is meant exactly wins. Of several that match, those
// of the project in the folder source are preferred. The error is a *FindError
// when there is not exactly one.
func Find(ctx context.Context, pattern, source string) (*Client, Found, error) {
	all, err := List(ctx)
	if err != nil {
		return nil, Found{}, err
	}
	f, err := choose(all, pattern, source)
	if err != nil {
		return nil, Found{}, err
	}
	c, err := Open(f.Name)
	return c, f, err
}

// choose returns the one that a pattern means.
func choose(all []Alive, pattern, source string) (Found, error) {
	e := &FindError{Pattern: pattern}
	for _, a := range all {
		if a.Err != nil {
			e.Silent = append(e.Silent, a)
		} else {
			e.Alive = append(e.Alive, a)
		}
	}
	for _, matches := range []func(of string) bool{
		func(of string) bool { return of == pattern },
		func(of string) bool { return strings.Contains(of, pattern) },
	} {
		var found []Alive
		for _, a := range e.Alive {
			if slices.ContainsFunc([]string{a.Run(), a.Status.Scenario, a.String()}, matches) {
				found = append(found, a)
			}
		}
		others := 0
		elsewhere := func(a Alive) bool { return !sameFolder(a.Status.Source, source) }
		if here := slices.DeleteFunc(slices.Clone(found), elsewhere); len(here) > 0 {
			found, others = here, len(found)-len(here)
		}
		switch {
		case len(found) == 1:
			return Found{found[0], others}, nil
		case len(found) > 1:
			e.Alive, e.Several, e.Silent = found, true, nil
			return Found{}, e
		}
	}
	return Found{}, e
}

// sameFolder reports whether two paths, none of them empty, lead to one folder.
func sameFolder(a, b string) bool {
	if a == "" || b == "" || a == b {
		return a == b && a != ""
	}
	infoA, errA := os.Stat(a)
	infoB, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(infoA, infoB)
}
