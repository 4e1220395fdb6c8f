package pk

import (
	"fmt"
	"io/fs"
	"strconv"
	"unicode/utf8"
)

// Status is a server's verdict on one request, byte 4 of every response.
type Status byte

// The statuses of PK v1.
const (
	OK                 Status = 0
	BadRequest         Status = 1 // length, magic, version, opcode or UTF-8 wrong
	Unauthenticated    Status = 2 // the peer is not paired for this service
	PathTraversal      Status = 3 // a segment is empty, "." or "..", or holds '\' or NUL
	NonPackageFSScheme Status = 4 // neither pkg:/ nor /packages/
	NotFound           Status = 5 // no such file, or a directory
	BadF               Status = 6 // unknown or closed handle
	Oversized          Status = 7 // a length that is zero or above the server's limit
	Limit              Status = 8 // no handle free
	IO                 Status = 9 // the package service is away, timed out or failed
)

var statusNames = [...]string{
	OK:                 "OK",
	BadRequest:         "BAD_REQUEST",
	Unauthenticated:    "UNAUTHENTICATED",
	PathTraversal:      "PATH_TRAVERSAL",
	NonPackageFSScheme: "NON_PACKAGEFS_SCHEME",
	NotFound:           "NOT_FOUND",
	BadF:               "BADF",
	Oversized:          "OVERSIZED",
	Limit:              "LIMIT",
	IO:                 "IO",
}

// Valid says whether the contract knows the status.
func (s Status) Valid() bool { return int(s) < len(statusNames) }

// String gives the contract's name of the status, or "STATUS(42)" for one that has none.
func (s Status) String() string {
	if s.Valid() {
		return statusNames[s]
	}
	return fmt.Sprintf("STATUS(%d)", byte(s))
}

// StatusError is an answer other than OK as an error.
type StatusError struct {
	Op     Op
	Status Status
	Path   string // what was asked for; may be empty for READ and CLOSE
}

// Error reads "STAT pkg:/system/build.prop: NOT_FOUND". The path is the caller's own and is shown as it is when it is
// harmless to a terminal, quoted otherwise.
func (e *StatusError) Error() string {
	if e.Path == "" {
		return e.Op.String() + ": " + e.Status.String()
	}
	return e.Op.String() + " " + printable(e.Path) + ": " + e.Status.String()
}

// Is lets errors.Is find the error of io/fs which has the same meaning: fs.ErrNotExist for NOT_FOUND,
// fs.ErrPermission for UNAUTHENTICATED, fs.ErrClosed for BADF, fs.ErrInvalid for a path that breaks the rules.
func (e *StatusError) Is(target error) bool {
	switch e.Status {
	case NotFound:
		return target == fs.ErrNotExist
	case Unauthenticated:
		return target == fs.ErrPermission
	case BadF:
		return target == fs.ErrClosed
	case PathTraversal, NonPackageFSScheme:
		return target == fs.ErrInvalid
	}
	return false
}

func printable(s string) string {
	for _, r := range s {
		if !strconv.IsPrint(r) || r == utf8.RuneError {
			return strconv.Quote(s)
		}
	}
	return s
}
