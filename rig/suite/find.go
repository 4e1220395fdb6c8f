// Package suite decides which scenarios run, runs each in a worker of its own,
// and collects what happens into one record.
//
// It owns the selection, the order and the workers. It never looks into a
// scenario beyond its name, and never decides a scenario's verdict.
package suite

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"dsoftbus-rig/images"
	"dsoftbus-rig/rig/scenario"
)

// Dir is where a project keeps its scenarios, below its root.
const Dir = "scenarios"

const extension = ".txtar"

// again stands between a scenario's name and which further playing of it is meant.
const again = "@"

// An Item is one scenario of a suite.
type Item struct {
	Name   string // "roundtrip/basic"
	File   string // path, as it is shown
	Script *scenario.Script
}

func compareNames(a, b Item) int { return strings.Compare(a.Name, b.Name) }

// Find returns the scenarios under root that a pattern selects, sorted by name;
// without patterns, all of them. A pattern is a scenario's name, a glob on it
// ("reject/*"), a folder of it ("reject"), or the path of a file, which may lie
// elsewhere. A pattern that selects nothing is an error, and so is a scenario
// with problems: then the error is scenario.Problems with all of them. A name never
// has an "@".
func Find(root string, patterns []string) ([]Item, error) {
	files, err := list(filepath.Join(root, Dir))
	if err != nil {
		return nil, err
	}
	selected := map[string]string{}
	if len(patterns) == 0 {
		selected = files
		if len(files) == 0 {
			return nil, fmt.Errorf("no scenario (*%s) in %s", extension, filepath.Join(root, Dir))
		}
	}
	for _, pattern := range patterns {
		n := 0
		if strings.HasSuffix(pattern, extension) {
			if _, err := os.Stat(pattern); err != nil {
				return nil, fmt.Errorf("find scenario: %w", err)
			}
			selected[nameOf(root, pattern)] = pattern
			continue
		}
		folder := strings.TrimSuffix(filepath.ToSlash(pattern), "/")
		folder = strings.TrimPrefix(folder, Dir+"/")
		for name, file := range files {
			ok, err := path.Match(folder, name)
			if err != nil {
				return nil, fmt.Errorf("pattern %q: %w", pattern, err)
			}
			if ok || name == folder || strings.HasPrefix(name, folder+"/") || folder == Dir {
				selected[name] = file
				n++
			}
		}
		if n == 0 {
			return nil, fmt.Errorf("no scenario matches %q; `rig list` shows them all", pattern)
		}
	}
	programs, err := images.Programs(root)
	if err != nil {
		return nil, err
	}
	var items []Item
	var problems scenario.Problems
	for name, file := range selected {
		if strings.Contains(name, again) {
			return nil, fmt.Errorf("%s: a scenario's name has no %q: it marks further playings of one, like basic%s2; rename the file", file, again, again)
		}
		script, err := scenario.Load(file, programs)
		var p scenario.Problems
		if errors.As(err, &p) {
			problems = append(problems, p...)
			continue
		}
		if err != nil {
			return nil, err
		}
		items = append(items, Item{Name: name, File: file, Script: script})
	}
	slices.SortFunc(items, compareNames)
	if len(problems) > 0 {
		slices.SortStableFunc(problems, func(a, b scenario.Problem) int { return strings.Compare(a.File, b.File) })
		return items, problems
	}
	return items, nil
}

// list returns the scenario files in a folder by their names.
func list(dir string) (map[string]string, error) {
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(file, extension) {
			return err
		}
		rel, err := filepath.Rel(dir, file)
		if err != nil {
			return err
		}
		files[strings.TrimSuffix(filepath.ToSlash(rel), extension)] = Shown(file)
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("find scenarios: %w", err)
	}
	return files, nil
}

// nameOf is the name of a scenario given by its path: its place among the
// project's scenarios, or else its folder and file name.
func nameOf(root, file string) string {
	base := strings.TrimSuffix(filepath.Base(file), extension)
	abs, err := filepath.Abs(file)
	if err != nil {
		return base
	}
	if rel, err := filepath.Rel(filepath.Join(root, Dir), abs); err == nil && filepath.IsLocal(rel) {
		return strings.TrimSuffix(filepath.ToSlash(rel), extension)
	}
	return base
}

// Shown is a path as messages show it: relative to the current folder when it is
// below it.
func Shown(file string) string {
	cwd, err := os.Getwd()
	if err != nil {
		return file
	}
	if rel, err := filepath.Rel(cwd, file); err == nil && filepath.IsLocal(rel) {
		return rel
	}
	return file
}
