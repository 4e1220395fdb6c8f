package pk

import (
	"strings"
	"unicode/utf8"
)

// The two prefixes that mean the package store. They are compared as bytes: no case folding, no decoding.
const (
	schemePrefix = "pkg:/"
	folderPrefix = "/packages/"
)

// Name is what a valid path names: "pkg:/system@1.0.0/etc/build.prop" is {"system", "1.0.0", "etc/build.prop"}.
//
// No segment of it is empty, "." or "..", or holds a backslash or NUL, so it can be joined to a folder. It still says
// nothing about links inside the store.
type Name struct {
	Bundle  string
	Version string // empty: the bundle's active version
	Path    string // below the bundle, slash-separated; empty for the bundle itself, which is a directory
}

// Rel is the path below the store as it was asked for: "system/build.prop", "system@1.0.0/build.prop", "system".
func (n Name) Rel() string {
	rel := n.Bundle
	if n.Version != "" {
		rel += "@" + n.Version
	}
	if n.Path != "" {
		rel += "/" + n.Path
	}
	return rel
}

// ResolvePath applies the path rules to a whole path, in the contract's order: length (Oversized), UTF-8 (BadRequest),
// prefix (NonPackageFSScheme), something behind it (Oversized), segments from left to right (PathTraversal).
// Only when the status is OK has the name a meaning.
func ResolvePath(path string, lim Limits) (Name, Status) {
	if len(path) == 0 || len(path) > lim.MaxPath {
		return Name{}, Oversized
	}
	if !utf8.ValidString(path) {
		return Name{}, BadRequest
	}
	rel, ok := strings.CutPrefix(path, schemePrefix)
	if !ok {
		rel, ok = strings.CutPrefix(path, folderPrefix)
	}
	if !ok {
		return Name{}, NonPackageFSScheme
	}
	if rel == "" {
		return Name{}, Oversized
	}
	for segment := range strings.SplitSeq(rel, "/") {
		if segment == "" || segment == "." || segment == ".." || strings.ContainsAny(segment, "\\\x00") {
			return Name{}, PathTraversal
		}
	}
	first, rest, _ := strings.Cut(rel, "/")
	return splitVersion(first, rest), OK
}

// splitVersion takes the bundle segment apart at its first '@'. With nothing on one side of it the '@' is part of an
// ordinary name: "system@" must not silently mean the active version.
func splitVersion(first, rest string) Name {
	bundle, version, found := strings.Cut(first, "@")
	if !found || bundle == "" || version == "" {
		return Name{Bundle: first, Path: rest}
	}
	return Name{Bundle: bundle, Version: version, Path: rest}
}
