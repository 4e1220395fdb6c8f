// Gotest runs go test and says what took longest.
//
//	gotest LIST ARG…
//
// It runs `go test -json ARG…` and prints go test's own lines: one for each package as
// it ends, with all that its failed tests have said, as -v has it. To the file LIST it
// adds the packages and tests that took longest. Its exit status is that of go test.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// How many of the slowest are listed, and from how many seconds on something is slow.
const (
	most = 10
	slow = 1.0
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: gotest LIST ARG…")
		os.Exit(2)
	}
	list, err := os.OpenFile(os.Args[1], os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		fmt.Fprintln(os.Stderr, "gotest:", err)
		os.Exit(2)
	}
	cmd := exec.Command("go", append([]string{"test", "-json"}, os.Args[2:]...)...)
	cmd.Stderr = os.Stderr
	events, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gotest: start go test:", err)
		os.Exit(2)
	}
	took, readErr := show(os.Stdout, events)
	err = cmd.Wait()
	printSlowest(list, took)
	readErr = errors.Join(readErr, list.Close())
	if err != nil {
		fmt.Println("FAIL") // as go test ends
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() > 0 {
		os.Exit(exit.ExitCode())
	}
	if err = errors.Join(readErr, err); err != nil {
		fmt.Fprintln(os.Stderr, "gotest: go test:", err)
		os.Exit(2)
	}
}

// An event is what `go test -json` says in one line (go doc test2json).
type event struct {
	Action, Package, ImportPath, Test, Output string
	Elapsed                                   float64
}

// A duration is how long a package took, or a test of it.
type duration struct {
	pkg, test string // test is "" for the whole package
	seconds   float64
}

// show prints the events of tests as go test does, and returns how long each took.
func show(out io.Writer, events io.Reader) (took []duration, err error) {
	said := map[[2]string][]string{} // by package and test, what is not printed yet
	for lines := bufio.NewReader(events); ; {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) != nil {
				fmt.Fprintf(out, "%s", line) // go test itself says something
				continue
			}
			took = append(took, e.show(out, said)...)
		}
		if errors.Is(err, io.EOF) {
			return took, nil
		}
		if err != nil {
			return took, fmt.Errorf("read the events: %w", err)
		}
	}
}

func (e *event) show(out io.Writer, said map[[2]string][]string) []duration {
	key := [2]string{e.Package, e.Test}
	switch e.Action {
	case "build-output":
		fmt.Fprint(out, e.Output)
	case "output":
		if !strings.HasPrefix(e.Output, "=== ") {
			said[key] = append(said[key], e.Output)
		}
	case "pass", "fail", "skip":
		if e.Test != "" && e.Action != "fail" {
			delete(said, key)
		}
		if e.Test == "" {
			e.end(out, said)
		}
		return []duration{{e.Package, e.Test, e.Elapsed}}
	}
	return nil
}

// end prints what a package and its tests have said, as far as that is wanted.
func (e *event) end(out io.Writer, said map[[2]string][]string) {
	own := [2]string{e.Package, ""}
	var tests [][2]string
	for key := range said {
		if key[0] == e.Package && key != own {
			tests = append(tests, key)
		}
	}
	// Those that were still running when the package ended are among them.
	slices.SortFunc(tests, func(a, b [2]string) int { return cmp.Compare(a[1], b[1]) })
	for _, key := range tests {
		fmt.Fprint(out, strings.Join(said[key], ""))
		delete(said, key)
	}
	for _, text := range said[own] {
		// Of a package that passed go test prints its last line alone.
		if e.Action == "fail" || strings.HasPrefix(text, "ok  \t") || strings.HasPrefix(text, "?   \t") || strings.HasPrefix(text, "\t") {
			fmt.Fprint(out, text)
		}
	}
	delete(said, own)
}

// printSlowest lists the packages and the tests that took longest. A test with parts
// counts with them.
func printSlowest(out io.Writer, took []duration) {
	slices.SortStableFunc(took, func(a, b duration) int { return cmp.Compare(b.seconds, a.seconds) })
	for _, list := range []struct {
		what string
		is   func(duration) bool
	}{
		{"packages", func(d duration) bool { return d.test == "" }},
		{"tests", func(d duration) bool { return d.test != "" && !strings.Contains(d.test, "/") }},
	} {
		left := most
		for _, d := range took {
			if !list.is(d) || d.seconds < slow || left == 0 {
				continue
			}
			if left == most {
				fmt.Fprintf(out, "the slowest %s:\n", list.what)
			}
			left--
			fmt.Fprintf(out, "%8.1fs %s\n", d.seconds, strings.TrimSpace(d.pkg+" "+d.test))
		}
	}
}
