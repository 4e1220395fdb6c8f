// Package recording is the form of what is kept of a machine that was recorded: a folder for each life of a node, from QEMU's start to its end.
//
//	A/recording/1/machine.json     what it was: a Machine
//	A/recording/1/log.rr           what entered it, in QEMU's form
//	A/recording/1/console          what its kernel's console printed, byte for byte
//	A/recording/1/journal          what its journal said, byte for byte
//	A/recording/1/positions.jsonl  which instruction it was at, and when: a Position a line
//
// It owns the names of these files, and how the command line of a recorded machine becomes the one that replays it. It never starts a machine.
package recording

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/google/renameio/v2"
)

// Names of the files of one life.
const (
	MachineFile   = "machine.json"
	LogFile       = "log.rr"
	ConsoleFile   = "console"
	JournalFile   = "journal"
	PositionsFile = "positions.jsonl"
)

// Names of files in the run's folder that all its recordings share.
const (
	KernelFile = "kernel.image"
	InitrdFile = "initrd.cpio"
	// DebugFile is the machines' programs with debug information.
	DebugFile = "node.debug"
)

// dirName is the folder, in a node's, of its lives.
const dirName = "recording"

// Schema is the version of a Machine's form.
const Schema = 1

// A Machine says what was recorded.
type Machine struct {
	Schema      int       `json:"schema"`
	Node        string    `json:"node"`         // "A"
	Scenario    string    `json:"scenario"`     // "roundtrip/basic"
	Started     time.Time `json:"started"`      // the host's clock
	QEMU        string    `json:"qemu"`         // path of the emulator, for people: a replay takes the user's
	QEMUVersion string    `json:"qemu_version"` // "7.2.22": the form of the log, and devices, are those of a version
	Args        []string  `json:"args"`         // of QEMU, as it was started
	Kernel      string    `json:"kernel"`       // SHA-256 of the kernel, in hex
	Initrd      string    `json:"initrd"`       // of the initramfs
	// Resets is how often the reset button was pressed. QEMU 7.2 logs the moment at which a machine is reset, but not that it was asked to: who replays it has to ask again.
	Resets int `json:"resets,omitempty"`
	// Ended says that QEMU has written its log to the end.
	Ended bool `json:"ended"`
	// Lines is how many lines it printed, on the console and in the journal together. Valid with Ended.
	Lines int `json:"lines"`
}

// A Position is where a machine was.
type Position struct {
	Time         time.Time `json:"time"`         // the host's clock
	Instructions int64     `json:"instructions"` // executed since its start
}

// A Life is a recording on disk.
type Life struct {
	Machine
	Dir    string // its folder
	Number int    // of the node's lives, from 1
}

// File returns the path of one of its files.
func (l *Life) File(name string) string { return filepath.Join(l.Dir, name) }

// Create makes the folder of a node's next life in the node's folder.
func Create(nodeDir string) (dir string, err error) {
	parent := filepath.Join(nodeDir, dirName)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return "", err
	}
	for n := 1; ; n++ {
		dir := filepath.Join(parent, strconv.Itoa(n))
		err := os.Mkdir(dir, 0o755)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		return dir, err
	}
}

// Write writes what a machine is into its folder; it may do so again.
func Write(dir string, m Machine) error {
	m.Schema = Schema
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	return renameio.WriteFile(filepath.Join(dir, MachineFile), append(data, '\n'), 0o644)
}

// Lives returns the recorded lives of a node in order, by the node's folder; none when it was not recorded.
func Lives(nodeDir string) ([]*Life, error) {
	entries, err := os.ReadDir(filepath.Join(nodeDir, dirName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []*Life
	for _, e := range entries {
		n, err := strconv.Atoi(e.Name())
		if err != nil || n < 1 {
			continue
		}
		l, err := load(filepath.Join(nodeDir, dirName, e.Name()))
		if err != nil {
			return nil, err
		}
		l.Number = n
		all = append(all, l)
	}
	slices.SortFunc(all, func(a, b *Life) int { return a.Number - b.Number })
	return all, nil
}

// Remove removes what was recorded of all nodes of a scenario, by the scenario's folder. All else of its record stays.
func Remove(scenarioDir string) error {
	nodes, err := os.ReadDir(scenarioDir)
	for _, node := range nodes {
		if !node.IsDir() {
			continue
		}
		err = errors.Join(err, os.RemoveAll(filepath.Join(scenarioDir, node.Name(), dirName)))
	}
	return err
}

func load(dir string) (*Life, error) {
	l := &Life{Dir: dir}
	data, err := os.ReadFile(l.File(MachineFile))
	if err != nil {
		return nil, fmt.Errorf("read the recording: %w", err)
	}
	if err := json.Unmarshal(data, &l.Machine); err != nil {
		return nil, fmt.Errorf("read the recording: %s: %w", l.File(MachineFile), err)
	}
	if l.Schema != Schema {
		return nil, fmt.Errorf("read the recording: %s has the form %d, this rig knows %d", l.File(MachineFile), l.Schema, Schema)
	}
	return l, nil
}

// Positions returns where the machine was when, in order. A last line that is cut off is left out.
func (l *Life) Positions() ([]Position, error) {
	f, err := os.Open(l.File(PositionsFile))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var all []Position
	in := bufio.NewReader(f)
	for {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		var p Position
		if err := json.Unmarshal(line, &p); err != nil {
			return nil, fmt.Errorf("%s: %w", l.File(PositionsFile), err)
		}
		all = append(all, p)
	}
}

// Digest is the SHA-256 of a file, in hex, as a Machine has those of what it booted.
func Digest(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("read %s: %w", file, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
