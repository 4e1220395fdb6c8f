package record

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/renameio/v2"
)

// Names inside a run's folder.
const (
	EventsFile  = "events.jsonl"
	SummaryFile = "summary.json"
	JUnitFile   = "junit.xml"
	LatestLink  = "latest"
	CaptureFile = "capture.pcapng" // a scenario's frames
	KeysFile    = "keys.log"       // the keys of its sessions, of a run that was told to have them

	workDir     = "work"
	consoleFile = "console.log"
	journalFile = "journal.jsonl"
	qemuLogFile = "qemu.log"
	qemuCmdFile = "qemu.cmd"
)

// A Run is the folder of a run that is going on, written by the process that started it. Its methods may be called concurrently.
type Run struct {
	dir     string
	name    string
	log     *eventLog
	builder *builder

	mu      sync.Mutex
	folders map[string]string // of scenarios, by their names
}

// Create makes a run's folder under root (made when missing), named after the current time and name, and points the link "latest"
// beside it there; where that cannot be done the run has a warning. Characters of name that do not belong in a file name become "-". Two
// runs of the same second get folders of their own.
//
// sink, when not nil, gets every event in order, one at a time, as it is recorded, whether or not it could be written; while it runs no
// further event is taken, and it must not append any.
func Create(root, name string, sink func(Event)) (*Run, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("create run folder: %w", err)
	}
	if err := os.MkdirAll(root, 0o755); err != nil {
		return nil, fmt.Errorf("create run folder: %w", explain(err))
	}
	name = sanitize(name)
	base := time.Now().Format("20060102-150405") + "-" + name
	dir := filepath.Join(root, base)
	for n := 2; ; n++ {
		err := os.Mkdir(dir, 0o755)
		if err == nil {
			break
		}
		if !errors.Is(err, os.ErrExist) {
			return nil, fmt.Errorf("create run folder: %w", explain(err))
		}
		dir = filepath.Join(root, base+"-"+strconv.Itoa(n))
	}
	r := &Run{dir: dir, name: name, builder: newBuilder(name), folders: make(map[string]string)}
	r.log, err = createEventLog(filepath.Join(dir, EventsFile), "", func(e Event) {
		r.builder.add(e)
		if sink != nil {
			sink(e)
		}
	})
	if err != nil {
		return nil, err
	}
	hold(r.log.f)
	if err := pointLatest(root, dir); err != nil {
		// The run is as good without; a first event that cannot be written is told by the next one.
		_ = r.Append(Event{Kind: KindWarning, Text: err.Error()})
	}
	return r, nil
}

// pointLatest has the link latest in the folder root lead to a run.
func pointLatest(root, dir string) error {
	link := filepath.Join(root, LatestLink)
	if info, err := os.Lstat(link); err == nil && info.IsDir() {
		return fmt.Errorf("%s is a folder and no link, so it does not lead to this run, %s; give it another name, as in mv %[1]s %[1]s-copied", link, dir)
	}
	if err := renameio.Symlink(filepath.Base(dir), link); err != nil {
		return fmt.Errorf("point %s to this run, %s: %w", link, dir, explain(err))
	}
	return nil
}

// Latest returns the folder of the newest run under root: where the link latest leads. Where that is a folder, an unpacked copy say, it is
// the run whose name is the newest. Without any run the error is fs.ErrNotExist.
func Latest(root string) (string, error) {
	link := filepath.Join(root, LatestLink)
	if info, err := os.Lstat(link); err != nil || !info.IsDir() {
		return filepath.EvalSymlinks(link)
	}
	entries, err := os.ReadDir(root)
	if err != nil {
		return "", err
	}
	for _, e := range slices.Backward(entries) { // sorted by name, which begins with the time
		if dir := filepath.Join(root, e.Name()); e.IsDir() && runName.MatchString(e.Name()) {
			return dir, nil
		}
	}
	return link, nil
}

// runName is how the name of a run's folder begins.
var runName = regexp.MustCompile(`^\d{8}-\d{6}-.`)

// Dir returns the run's folder, an absolute path.
func (r *Run) Dir() string { return r.dir }

// Append records an event: one of the run's own (it gets the time and the seconds since the run's start), or one of a scenario,
// passed on from its worker (it keeps both). It returns once the event is in the file. The first failure to write is returned, names
// the file, and ends the writing; later calls pass events on to the sink and return nil.
func (r *Run) Append(e Event) error { return r.log.append(e) }

// Summary returns what the events so far amount to. A scenario that has not ended counts as interrupted.
func (r *Run) Summary() Summary { return r.builder.summary() }

// WriteFile gives the run's folder a file of that name with what write writes. The file appears whole or not at all.
func (r *Run) WriteFile(name string, write func(io.Writer) error) error {
	path := filepath.Join(r.dir, name)
	if err := writeAside(path, write); err != nil {
		return fmt.Errorf("write %s: %w", path, explain(err))
	}
	return nil
}

// Finish ends the run: it records its end, writes summary.json and closes the event log. why is what ended the run beside its
// scenarios (an image that cannot be built, say), nil when nothing did. The summary is returned also with an error.
func (r *Run) Finish(why *Failure) (Summary, error) {
	return r.finish(why, time.Since(r.log.start))
}

func (r *Run) finish(why *Failure, took time.Duration) (Summary, error) {
	r.builder.fail(why)
	s := r.builder.summary()
	s.Seconds = Seconds(took)
	err := r.log.append(Event{Kind: KindRunEnd, Result: s.Result, Seconds: s.Seconds, Failure: why})
	err = errors.Join(err, r.WriteFile(SummaryFile, func(w io.Writer) error {
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		return enc.Encode(s)
	}))
	return s, errors.Join(err, r.log.close())
}

// Close closes the event log of a run that is given up without an end. After Finish it does nothing.
func (r *Run) Close() error { return r.log.close() }

func writeAside(path string, write func(io.Writer) error) (err error) {
	f, err := renameio.NewPendingFile(path, renameio.WithTempDir(filepath.Dir(path)), renameio.WithPermissions(0o644))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Cleanup()) }()
	if err := write(f); err != nil {
		return err
	}
	return f.CloseAtomicallyReplace()
}

// sanitize returns name as a file name: letters, digits, ".", "_", "-" and "@" stay, everything else becomes "-"; never hidden, never
// empty, 64 bytes at most. What is behind the last "@", which tells the playings of one scenario apart, is never cut off.
func sanitize(name string) string {
	name = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '_', r == '-', r == '@':
			return r
		}
		return '-'
	}, name)
	name = strings.TrimLeft(name, ".-")
	const most = 64
	end := ""
	if i := strings.LastIndexByte(name, '@'); len(name) > most && i >= max(0, len(name)-most/2) {
		name, end = name[:i], name[i:]
	}
	name = strings.TrimRight(name[:min(len(name), most-len(end))]+end, "-.")
	if name == "" {
		return "run"
	}
	return name
}
