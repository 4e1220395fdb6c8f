package record

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// A Scenario is the folder of a scenario that is running, written by its worker. Its methods may be called concurrently.
type Scenario struct {
	dir string
	log *eventLog
}

// CreateScenario makes the folder dir, which Run.Folder has named, of the scenario name ("roundtrip/basic") in the run's folder runDir. A
// scenario is recorded once in a run: if it has events already, that is an error.
//
// sink gets every event in order, one at a time, as it is recorded, whether or not it could be written; it is how a worker passes events
// on to the parent (WriteEvent). While it runs no further event is taken, and it must not append any.
func CreateScenario(runDir, dir, name string, sink func(Event)) (*Scenario, error) {
	dir = filepath.Join(runDir, filepath.FromSlash(dir))
	if err := os.MkdirAll(filepath.Join(dir, workDir), 0o755); err != nil {
		return nil, fmt.Errorf("create folder of scenario %s: %w", name, explain(err))
	}
	log, err := createEventLog(filepath.Join(dir, EventsFile), name, sink)
	if err != nil {
		return nil, fmt.Errorf("record scenario %s: %w", name, err)
	}
	return &Scenario{dir: dir, log: log}, nil
}

// Dir returns the scenario's folder.
func (s *Scenario) Dir() string { return s.dir }

// Work returns the scenario's work folder, $WORK.
func (s *Scenario) Work() string { return filepath.Join(s.dir, workDir) }

// Capture returns the file of the frames that crossed the scenario's network, which package capture makes.
func (s *Scenario) Capture() string { return filepath.Join(s.dir, CaptureFile) }

// Keys returns the file of the keys of the scenario's sessions, which there is only where a run was told to have it.
func (s *Scenario) Keys() string { return filepath.Join(s.dir, KeysFile) }

// Append records an event with the time and the seconds since the folder was made, unless it has a time already. It returns once the
// event is in the file. The first failure to write is returned, names the file, and ends the writing; later calls pass events on to the
// sink and return nil.
func (s *Scenario) Append(e Event) error { return s.log.append(e) }

// Err returns the first failure to write an event, to whomever Append returned it; nil when all are in the file.
func (s *Scenario) Err() error { return s.log.lost() }

// Close closes the event log; closing it again does nothing.
func (s *Scenario) Close() error { return s.log.close() }

// NodeFiles are the files of one node. In a summary the paths are relative to the run's folder and separated by slashes.
type NodeFiles struct {
	Name    string `json:"name"`
	Console string `json:"console"`  // console.log
	Journal string `json:"journal"`  // journal.jsonl
	QEMULog string `json:"qemu_log"` // qemu.log
	QEMUCmd string `json:"qemu_cmd"` // qemu.cmd
}

// Node makes the folder of a node and returns the paths of the files in it, none of which it makes.
func (s *Scenario) Node(name string) (NodeFiles, error) {
	if name != sanitize(name) || name == workDir || name == EventsFile {
		return NodeFiles{}, fmt.Errorf("create folder of node %q: not usable as a file name", name)
	}
	if err := os.MkdirAll(filepath.Join(s.dir, name), 0o755); err != nil {
		return NodeFiles{}, fmt.Errorf("create folder of node %s: %w", name, explain(err))
	}
	return nodeFiles(filepath.ToSlash(s.dir), name), nil
}

func nodeFiles(dir, name string) NodeFiles {
	dir = path.Join(dir, sanitize(name))
	return NodeFiles{
		Name:    name,
		Console: path.Join(dir, consoleFile),
		Journal: path.Join(dir, journalFile),
		QEMULog: path.Join(dir, qemuLogFile),
		QEMUCmd: path.Join(dir, qemuCmdFile),
	}
}

// CoverageDir is the folder, in a node's, of what its programs counted.
const CoverageDir = "coverage"

// ScenarioDir returns the folder of a scenario with an ordinary name, relative to the run's folder and separated by slashes. It never leads
// out of it. Several names may have the same one: Run.Folder tells them apart.
func ScenarioDir(name string) string {
	parts := strings.Split(name, "/")
	for i, part := range parts {
		parts[i] = sanitize(part)
	}
	return path.Join(parts...)
}

// runFiles are names at the top of a run's folder that no scenario's folder may have.
var runFiles = []string{
	EventsFile, SummaryFile, JUnitFile, "notes.json", "report.html", "coverage.out", "coverage.html", "kernel.image", "initrd.cpio", "node.debug",
	"soak.txtar", "shell.txtar",
}

// Folder returns the folder of a scenario in this run, relative to the run's folder and separated by slashes. It is the scenario's alone:
// no other one has it, lies in it, or has it in its own, also where upper and lower case are the same. An ordinary name is the folder's, too;
// one that is no file name, or whose folder is taken, has a part of its digest added.
func (r *Run) Folder(name string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if dir := r.folders[name]; dir != "" {
		return dir
	}
	dir := ScenarioDir(name)
	for n := 0; dir != name && n == 0 || r.taken(dir); n++ {
		sum := sha256.Sum256(fmt.Appendf(nil, "%d %s", n, name))
		dir = fmt.Sprintf("%s-%x", sanitize(strings.ReplaceAll(name, "/", "-")), sum[:4])
	}
	r.folders[name] = dir
	return dir
}

// taken reports whether a folder is another scenario's or the run's, lies in such a one, or would hold it.
func (r *Run) taken(dir string) bool {
	dir = strings.ToLower(dir)
	within := func(a, b string) bool { return a == b || strings.HasPrefix(a, b+"/") }
	if slices.ContainsFunc(runFiles, func(name string) bool { return within(dir, name) }) {
		return true
	}
	for _, other := range r.folders {
		other = strings.ToLower(other)
		if within(dir, other) || within(other, dir) {
			return true
		}
	}
	return false
}
