package history

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// NotesFile is the file of a run's folder that has what its results were, seen against those before it; a run with nothing to note has none. It lies
// with the record since nobody who reads that elsewhere, or later, has the same past to compare with.
const NotesFile = "notes.json"

// notesSchema is the version of that file. A reader takes no other.
const notesSchema = 1

type notesFile struct {
	Schema int    `json:"schema"`
	Notes  []Note `json:"notes"`
}

// WriteNotes writes what ReadNotes reads.
func WriteNotes(w io.Writer, notes []Note) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(notesFile{notesSchema, notes})
}

// ReadNotes reads the notes of the run in a folder; there may be none.
func ReadNotes(dir string) ([]Note, error) {
	file := filepath.Join(dir, NotesFile)
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var f notesFile
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	if f.Schema != notesSchema {
		return nil, fmt.Errorf("read %s: its schema is %d, and this rig knows %d", file, f.Schema, notesSchema)
	}
	return f.Notes, nil
}
