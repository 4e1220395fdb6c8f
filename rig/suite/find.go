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
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

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

// Find returns the scenarios that a pattern selects, sorted by name; without
// patterns, all of the project in the folder root. A pattern is a scenario's name, a
// folder of them ("reject"), a glob ("reject/*"), or the path of a file or folder,
// which may lie elsewhere. A file that several patterns select is one item, and no
// two items have the same name. A pattern that selects nothing is an error, and so
// is a scenario with problems: then the error is scenario.Problems with all of them.
// A name never has an "@".
func Find(root string, patterns []string) ([]Item, error) {
	own, err := list(filepath.Join(root, Dir))
	if err != nil {
		return nil, err
	}
	if len(patterns) == 0 {
		if len(own) == 0 {
			return nil, fmt.Errorf("no scenario (*%s) in %s", extension, filepath.Join(root, Dir))
		}
		if err := noLinks(filepath.Join(root, Dir)); err != nil {
			return nil, err
		}
	}
	selected := map[string]string{} // of the project, by name
	if len(patterns) == 0 {
		selected = own
	}
	var others []outsider
	for _, pattern := range patterns {
		names, found, err := resolve(root, own, pattern)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			selected[name] = own[name]
		}
		others = append(others, found...)
	}
	named, err := nameOutsiders(others, own)
	if err != nil {
		return nil, err
	}
	for name, file := range named {
		selected[name] = file
	}
	return load(root, selected)
}

// resolve returns what a pattern selects: names of the project's scenarios own, or
// files elsewhere.
func resolve(root string, own map[string]string, pattern string) (names []string, others []outsider, err error) {
	info, statErr := os.Stat(pattern)
	if statErr == nil && !info.IsDir() && strings.HasSuffix(pattern, extension) {
		if name, ok := ownName(root, own, pattern, info); ok {
			return []string{name}, nil, nil
		}
		o, err := newOutsider(pattern, filepath.Base(pattern), info)
		return nil, []outsider{o}, err
	}
	all := slices.Sorted(maps.Keys(own))
	names, err = Match(root, all, pattern)
	switch {
	case err != nil || len(names) > 0:
		return names, nil, err
	case statErr == nil && info.IsDir():
		others, err = listOutside(pattern)
		if err == nil && len(others) == 0 {
			err = fmt.Errorf("no scenario (*%s) in %s", extension, pattern)
		}
		return nil, others, err
	case statErr == nil:
		return nil, nil, fmt.Errorf("%s is no scenario: the name of its file does not end in %s", pattern, extension)
	case strings.HasSuffix(pattern, extension) && !strings.ContainsAny(pattern, "*?["):
		return nil, nil, fmt.Errorf("find scenario: %w%s", statErr, Suggestion(all, strings.TrimSuffix(pattern, extension)))
	}
	return nil, nil, fmt.Errorf("no scenario matches %q%s; `rig list` shows them all", pattern, Suggestion(all, pattern))
}

// Match returns which of some names of the project's scenarios a pattern means: a
// name, a folder of names, a glob, or the path of one of these in the project in the
// folder root, whether or not there is such a file. Without a root no path is one of
// the project.
func Match(root string, names []string, pattern string) ([]string, error) {
	if pattern == "" {
		return nil, nil
	}
	slashed := filepath.ToSlash(pattern)
	if !filepath.IsAbs(pattern) && slashed != "." && slashed != ".." && !strings.HasPrefix(slashed, "./") && !strings.HasPrefix(slashed, "../") {
		place := strings.TrimPrefix(path.Clean(slashed), Dir+"/")
		if place == Dir {
			place = "."
		}
		if chosen, err := matching(names, place); err != nil || len(chosen) > 0 {
			return chosen, err
		}
	}
	place, ok := placeIn(root, pattern)
	if !ok {
		return nil, nil
	}
	return matching(names, place)
}

// matching returns the names that are at a place, in it, or match it as a glob; "."
// holds all of them.
func matching(names []string, place string) (chosen []string, err error) {
	place = strings.TrimSuffix(place, extension)
	for _, name := range names {
		ok, err := path.Match(place, name)
		if err != nil {
			return nil, fmt.Errorf("pattern %q: %w", place, err)
		}
		if ok || place == "." || name == place || strings.HasPrefix(name, place+"/") {
			chosen = append(chosen, name)
		}
	}
	return chosen, nil
}

// placeIn returns where a path is among the project's scenarios, "." for a folder
// that holds all of them. ok is false when it is elsewhere.
func placeIn(root, file string) (place string, ok bool) {
	if root == "" {
		return "", false
	}
	file, err := resolved(file)
	if err != nil {
		return "", false
	}
	scenarios, err := resolved(filepath.Join(root, Dir))
	if err != nil {
		return "", false
	}
	if rel, err := filepath.Rel(file, scenarios); err == nil && filepath.IsLocal(rel) {
		return ".", true
	}
	rel, err := filepath.Rel(scenarios, file)
	return filepath.ToSlash(rel), err == nil && filepath.IsLocal(rel)
}

// resolved returns the absolute path of a file with the links in the folders above it
// followed, as far as these exist.
func resolved(file string) (string, error) {
	abs, err := filepath.Abs(file)
	if err != nil {
		return "", err
	}
	dir, base := filepath.Dir(abs), filepath.Base(abs)
	if dir == abs {
		return abs, nil
	}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		return filepath.Join(real, base), nil
	}
	dir, err = resolved(dir)
	return filepath.Join(dir, base), err
}

// ownName returns the name of a file that is one of the project's scenarios, also by
// another path or link.
func ownName(root string, own map[string]string, file string, info fs.FileInfo) (string, bool) {
	if place, ok := placeIn(root, file); ok {
		if name := strings.TrimSuffix(place, extension); own[name] != "" {
			return name, true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(own)) {
		if other, err := os.Stat(own[name]); err == nil && os.SameFile(info, other) {
			return name, true
		}
	}
	return "", false
}

// An outsider is the file of a scenario that is none of the project's.
type outsider struct {
	file  string // as it was given
	info  fs.FileInfo
	parts []string // of its absolute path, without the extension
	named int      // how many of the last parts are its name
}

// newOutsider returns the outsider in a file whose name is at least place, the end of
// its path.
func newOutsider(file, place string, info fs.FileInfo) (outsider, error) {
	abs, err := filepath.Abs(file)
	if err != nil {
		return outsider{}, err
	}
	parts := strings.Split(strings.Trim(strings.TrimSuffix(filepath.ToSlash(abs), extension), "/"), "/")
	return outsider{Shown(abs), info, parts, strings.Count(filepath.ToSlash(place), "/") + 1}, nil
}

// name is what the outsider is called: the end of its path. Folders outside of the
// project may have any names, also ones that look like further attempts.
func (o outsider) name() string {
	folders := strings.ReplaceAll(strings.Join(o.parts[len(o.parts)-o.named:len(o.parts)-1], "/"), again, "-")
	return path.Join(folders, o.parts[len(o.parts)-1])
}

// listOutside returns the scenarios below a folder that is none of the project's.
func listOutside(dir string) (all []outsider, err error) {
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return nil, fmt.Errorf("find scenarios: %w", err)
	}
	files, err := list(dir)
	if err != nil {
		return nil, err
	}
	for name, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			return nil, fmt.Errorf("find scenarios: %w", err)
		}
		o, err := newOutsider(file, name, info)
		if err != nil {
			return nil, err
		}
		all = append(all, o)
	}
	return all, nil
}

// nameOutsiders returns the files of outsiders by names that differ, also from the
// names of the project's own scenarios. The names are as short as that allows. A file
// that is in the list twice, also by a link, is returned once.
func nameOutsiders(all []outsider, own map[string]string) (map[string]string, error) {
	slices.SortFunc(all, func(a, b outsider) int { return slices.Compare(a.parts, b.parts) })
	var distinct []outsider
	for _, o := range all {
		if !slices.ContainsFunc(distinct, func(d outsider) bool { return os.SameFile(o.info, d.info) }) {
			distinct = append(distinct, o)
		}
	}
	for {
		count := map[string]int{}
		for _, o := range distinct {
			count[o.name()]++
		}
		named, longer := map[string]string{}, false
		for i, o := range distinct {
			name := o.name()
			switch {
			case count[name] == 1 && own[name] == "":
				named[name] = o.file
			case o.named < len(o.parts):
				distinct[i].named++
				longer = true
			}
		}
		switch {
		case longer:
		case len(named) < len(distinct):
			return nil, errors.New("two of the given files cannot be told apart by their names, or one cannot from a scenario of the project; rename one of them")
		default:
			return named, nil
		}
	}
}

// load reads scenario files, by name.
func load(root string, files map[string]string) (items []Item, err error) {
	programs, err := images.Programs(root)
	if err != nil {
		return nil, err
	}
	var problems scenario.Problems
	for name, file := range files {
		if strings.Contains(name, again) {
			return nil, fmt.Errorf("%s: a scenario's name has no %q: it marks further playings of one, like basic%s2; rename the file", file, again, again)
		}
		if !utf8.ValidString(name) {
			return nil, fmt.Errorf("%q: a scenario's name is UTF-8: a record cannot tell it from others; rename the file", file)
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

// Suggestion returns "; did you mean …?" for the name or folder that is most like a
// pattern, else "".
func Suggestion(names []string, pattern string) string {
	wanted := strings.TrimPrefix(path.Clean(filepath.ToSlash(pattern)), Dir+"/")
	full := map[string]string{} // by what may have been meant
	for _, name := range names {
		full[name] = name
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			full[dir] = dir
		}
	}
	best := scenario.Nearest(wanted, slices.Collect(maps.Keys(full)))
	if best == "" { // without its folder, say
		for _, name := range slices.Backward(names) {
			if _, taken := full[path.Base(name)]; !taken {
				full[path.Base(name)] = name
			}
		}
		best = full[scenario.Nearest(path.Base(wanted), slices.Collect(maps.Keys(full)))]
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

// noLinks returns an error when a link to a folder is in a folder: its scenarios
// would be left out of all, and nobody would hear of it.
func noLinks(dir string) error {
	err := filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.Type()&fs.ModeSymlink == 0 {
			return err
		}
		if info, err := os.Stat(file); err == nil && info.IsDir() {
			return fmt.Errorf("%s is a link to a folder, whose scenarios would be left out; move the folder here, or name what to play", Shown(file))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("find scenarios: %w", err)
	}
	return nil
}

// list returns the scenario files in a folder by their names. It follows no links to
// folders.
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
