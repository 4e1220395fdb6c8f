package record

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// A Scenario is the folder of a scenario that is running, written by its worker. Its methods may be called concurrently.
type Scenario struct {
	dir string
	log *eventLog
}

// CreateScenario makes the folder of the scenario name ("roundtrip/basic") in the run's folder runDir. A scenario is recorded once in a
// run: if it has events already, that is an error.
//
// sink gets every event in order, one at a time, as it is recorded, whether or not it could be written; it is how a worker passes events
// on to the parent (WriteEvent). While it runs no further event is taken, and it must not append any.
func CreateScenario(runDir, name string, sink func(Event)) (*Scenario, error) {
	dir := filepath.Join(runDir, filepath.FromSlash(ScenarioDir(name)))
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

// ScenarioDir returns the folder of a scenario, relative to the run's folder and separated by slashes. It never leads out of it.
func ScenarioDir(name string) string {
	parts := strings.Split(name, "/")
	for i, part := range parts {
		parts[i] = sanitize(part)
	}
	return path.Join(parts...)
}
