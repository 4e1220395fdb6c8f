package vitals

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"dsoftbus-rig/nodes/cli"
	"dsoftbus-rig/nodes/process"
)

// A request is a checked command line.
type request struct {
	proc     string // where processes are looked at
	save     string
	against  string
	fds, rss int           // how much more is allowed
	within   time.Duration // how long more than that may be there
	programs []string
}

// A vital is what one service holds.
type vital struct {
	name                    string
	pid, fds, rssKB, thread int
}

const form = "%s pid=%d fds=%d rss_kb=%d threads=%d"

func (v vital) String() string { return fmt.Sprintf(form, v.name, v.pid, v.fds, v.rssKB, v.thread) }

// Main is the whole program. It returns the exit status.
func Main(_ context.Context, args []string, stdout, stderr io.Writer) int {
	return run(process.Proc, args, stdout, stderr)
}

func run(proc string, args []string, stdout, stderr io.Writer) int {
	r, err := parse(args, stderr)
	if err == nil {
		r.proc = proc
		err = r.look(stdout)
	}
	return cli.Status("vitals", err, stderr)
}

// parse checks a command line whole, so that a wrong one does nothing.
func parse(args []string, stderr io.Writer) (*request, error) {
	r := &request{}
	flags := flag.NewFlagSet("vitals", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&r.save, "save", "", "write what is printed to this `file`, too")
	flags.StringVar(&r.against, "against", "", "fail when something grew since this `file` was saved")
	flags.IntVar(&r.fds, "fds", 0, "with -against: `N` descriptors more are no growth")
	flags.IntVar(&r.rss, "rss", 4096, "with -against: that many `KiB` more of resident memory are no growth")
	flags.DurationVar(&r.within, "within", 0, "with -against: look again for that `time` until nothing has grown")
	help := func() {
		fmt.Fprintln(stderr, "usage:\n  vitals [-save FILE] PROGRAM...\n  vitals -against FILE [-fds N] [-rss KIB] [-within D] PROGRAM...")
		flags.PrintDefaults()
	}
	if err := cli.ParseFlags(flags, args, help); err != nil {
		return nil, err
	}
	given := map[string]bool{}
	flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
	r.programs = flags.Args()
	switch {
	case len(r.programs) == 0:
		return nil, cli.Usagef("no program; name those to look at, as in vitals dsoftbusd packagefsd")
	case r.save != "" && r.against != "":
		return nil, cli.Usagef("-save with -against: save first, compare later")
	case r.against == "" && (given["fds"] || given["rss"] || given["within"]):
		return nil, cli.Usagef("-fds, -rss and -within are for -against FILE")
	case r.fds < 0 || r.rss < 0 || r.within < 0:
		return nil, cli.Usagef("-fds %d, -rss %d, -within %s: say 0 or more", r.fds, r.rss, r.within)
	}
	return r, nil
}

func (r *request) look(stdout io.Writer) error {
	// What cannot be compared is said before anything else is done.
	var before map[string]vital
	if r.against != "" {
		var err error
		if before, err = load(r.against, r.programs); err != nil {
			return err
		}
	}
	lines, grown, err := r.compare(before)
	// A service gives back what it held some time after its peer or program has gone.
	for end := time.Now().Add(r.within); err == nil && grown != nil && time.Now().Before(end); {
		time.Sleep(lookAgain)
		lines, grown, err = r.compare(before)
	}
	if err != nil {
		return err
	}
	if _, err := stdout.Write(lines.Bytes()); err != nil {
		return err
	}
	if r.save != "" {
		if err := os.WriteFile(r.save, lines.Bytes(), 0o644); err != nil {
			return fmt.Errorf("save: %w", err)
		}
	}
	return joined(grown)
}

// lookAgain is the time between two looks.
const lookAgain = 200 * time.Millisecond

// compare looks at the services once. grown is what there is more of than before, if that is known.
func (r *request) compare(before map[string]vital) (lines bytes.Buffer, grown []error, err error) {
	now, err := find(r.proc, r.programs)
	for _, v := range now {
		fmt.Fprintln(&lines, v)
		if before != nil {
			grown = append(grown, r.grown(before[v.name], v)...)
		}
	}
	return lines, grown, err
}

// joined makes one line of errors.
func joined(errs []error) error {
	if len(errs) == 0 {
		return nil
	}
	var texts []string
	for _, err := range errs {
		texts = append(texts, err.Error())
	}
	return errors.New(strings.Join(texts, "; "))
}

// grown is what a service has more of than it may.
func (r *request) grown(before, now vital) (grown []error) {
	if before.pid != now.pid {
		// A new process has nothing to do with what the former one held.
		return []error{fmt.Errorf("%s is another process: pid %d, was %d", now.name, now.pid, before.pid)}
	}
	for _, c := range []struct {
		what             string
		was, is, allowed int
	}{{"fds", before.fds, now.fds, r.fds}, {"rss_kb", before.rssKB, now.rssKB, r.rss}} {
		if more := c.is - c.was; more > c.allowed {
			grown = append(grown, fmt.Errorf("%s grew: %s %d, was %d: %d more, allowed are %d", now.name, c.what, c.is, c.was, more, c.allowed))
		}
	}
	return grown
}

// load reads what was saved of programs.
func load(file string, programs []string) (map[string]vital, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("compare: %w", err)
	}
	saved := map[string]vital{}
	for line := range strings.Lines(string(data)) {
		var v vital
		if _, err := fmt.Sscanf(line, form+"\n", &v.name, &v.pid, &v.fds, &v.rssKB, &v.thread); err != nil {
			return nil, fmt.Errorf("compare: %s: %q is no line of vitals", file, strings.TrimSuffix(line, "\n"))
		}
		saved[v.name] = v
	}
	for _, name := range programs {
		if _, ok := saved[name]; !ok {
			return nil, fmt.Errorf("compare: %s says nothing of %s", file, name)
		}
	}
	return saved, nil
}

// find looks at the one process of each name.
func find(proc string, programs []string) ([]vital, error) {
	var out []vital
	for _, name := range programs {
		pid, err := process.One(proc, name)
		if err != nil {
			return nil, err
		}
		v, err := read(proc, name, pid)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

// read looks at one process.
func read(proc, name string, pid int) (vital, error) {
	dir := filepath.Join(proc, strconv.Itoa(pid))
	v := vital{name: name, pid: pid}
	fds, err := process.Descriptors(proc, pid)
	if errors.Is(err, fs.ErrNotExist) {
		return v, fmt.Errorf("%s, pid %d, has ended meanwhile", name, pid)
	}
	if err != nil {
		return v, fmt.Errorf("%s: %w", name, err)
	}
	v.fds = len(fds)
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return v, fmt.Errorf("%s: %w", name, err)
	}
	wanted := map[string]*int{"VmRSS:": &v.rssKB, "Threads:": &v.thread}
	for s := bufio.NewScanner(bytes.NewReader(status)); s.Scan(); {
		words := strings.Fields(s.Text())
		if len(words) < 2 || wanted[words[0]] == nil {
			continue
		}
		if *wanted[words[0]], err = strconv.Atoi(words[1]); err != nil {
			return v, fmt.Errorf("%s: %s/status: %q", name, dir, s.Text())
		}
		delete(wanted, words[0])
	}
	if len(wanted) > 0 { // a process that has ended and is not waited for has no memory
		return v, fmt.Errorf("%s, pid %d, has ended, or %s/status is none", name, pid, dir)
	}
	return v, nil
}
