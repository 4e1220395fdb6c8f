package scenario

import (
	"encoding/hex"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A kind is what an argument or the value of a flag has to be.
type kind struct {
	check func(sc *scope, s string) *fault // nil: anything
	words func(sc *scope) []string         // what completion offers; nil: nothing

	literal bool // has to be written out, since the checker must know it
	regexp  bool // is a regular expression, in which a variable stands for its value's literal text
}

var (
	anyText = &kind{}

	// A node that is up; nodeList takes '*' for all as well.
	oneNode  = &kind{check: checkOneNode, words: func(sc *scope) []string { return sc.nodes }}
	nodeList = &kind{check: checkNodeList, words: func(sc *scope) []string { return append([]string{"*"}, sc.nodes...) }}

	// A node that is declared, up or not: its cable is there all the same. The second
	// takes '*', too.
	declaredNode  = &kind{check: (*scope).declared, words: oneNode.words}
	declaredNodes = &kind{check: checkAnyNode, words: nodeList.words}

	// A node that `up` may bring up, and one that is being declared.
	anyNode = &kind{check: checkAnyNode, words: nodeList.words}
	newNode = &kind{check: checkNewNode, literal: true}

	program   = &kind{check: checkProgram, words: (*scope).programNames}
	service   = &kind{check: checkProgram, words: func(*scope) []string { return services }}
	guestPath = &kind{check: checkGuestPath}

	// A file of $WORK that is there, one that may be 'stdout' or 'stderr', and one
	// that is to be written.
	file     = &kind{check: (*scope).file, words: fileNames}
	readable = &kind{check: checkReadable, words: func(sc *scope) []string { return append(fileNames(sc), "stderr", "stdout") }}
	newFile  = &kind{check: checkNewFile, words: fileNames}

	// A regular expression that is matched line by line, and one for an output as one
	// text.
	pattern      = &kind{check: func(_ *scope, s string) *fault { return checkPattern(s, false) }, regexp: true}
	wholePattern = &kind{check: func(_ *scope, s string) *fault { return checkPattern(s, true) }, regexp: true}

	duration   = &kind{check: checkDuration}
	interval   = &kind{check: checkInterval}
	count      = &kind{check: checkCount}
	exitStatus = &kind{check: checkExitStatus}
	signal     = &kind{check: checkSignal, words: func(*scope) []string { return slices.Sorted(maps.Keys(signals)) }}
	endpoint   = &kind{check: checkEndpoint, words: endpointNames}
	source     = &kind{check: checkSource, words: func(sc *scope) []string { return sc.nodes }}
	hexBytes   = &kind{check: checkHex}
	payload    = &kind{words: fileNames}
	variable   = &kind{check: checkVariable, literal: true}
	assignment = &kind{words: (*scope).variables}
	budgetName = &kind{check: checkBudgetName, literal: true}
	openBudget = &kind{check: checkOpenBudget, words: func(sc *scope) []string { return slices.Sorted(maps.Keys(sc.budgets)) }, literal: true}
	job        = &kind{check: checkJob, words: jobNames, literal: true}
)

// services are the programs that `up` starts.
var services = []string{"dsoftbusd", "packagefsd"}

// signals are the names `kill` takes, without their SIG.
var signals = map[string]bool{
	"ABRT": true, "ALRM": true, "CONT": true, "HUP": true, "INT": true, "KILL": true, "PIPE": true, "QUIT": true, "SEGV": true,
	"STOP": true, "TERM": true, "USR1": true, "USR2": true,
}

// oneOf is a kind for one of a few fixed words.
func oneOf(values ...string) *kind {
	return &kind{
		check: func(_ *scope, s string) *fault {
			if slices.Contains(values, s) {
				return nil
			}
			return faultf("it can be "+strings.Join(values, " or "), "bad value %q", s)
		},
		words: func(*scope) []string { return values },
	}
}

func checkOneNode(sc *scope, s string) *fault {
	if s == "*" {
		return faultf("name one node", "'*' cannot stand here")
	}
	return sc.node(s)
}

func checkNodeList(sc *scope, s string) *fault {
	if s != "*" {
		return sc.node(s)
	}
	for _, name := range sc.nodes {
		if f := sc.node(name); f != nil {
			return f
		}
	}
	return nil
}

func checkAnyNode(sc *scope, s string) *fault {
	if s == "*" {
		return nil
	}
	return sc.declared(s)
}

func checkNewNode(sc *scope, s string) *fault {
	switch {
	case !ValidNode(s):
		return faultf("use a capital letter, then capital letters and digits, at most 8", "%q is no name for a node", s)
	case slices.Contains(standardNodes, s):
		return faultf("leave the line out", "node %s is always there", s)
	case slices.Contains(sc.nodes, s):
		return faultf("leave one of the lines out", "node %s is declared twice", s)
	case len(sc.nodes) == MaxNodes:
		return faultf("use fewer", "more than %d nodes", MaxNodes)
	case sc.upLine > 0:
		return faultf("move the line in front of the first `up`", "node %s is declared after `up` (line %d)", s, sc.upLine)
	}
	return nil
}

func checkProgram(_ *scope, s string) *fault {
	if s == "" {
		return faultf("name a program", "empty program name")
	}
	if strings.HasPrefix(s, "-") {
		return faultf("put flags of the command in front of its node", "%q is no program", s)
	}
	return nil
}

func checkGuestPath(_ *scope, s string) *fault {
	if !strings.HasPrefix(s, "/") {
		return faultf("begin it with a slash", "path on a node %q is not absolute", s)
	}
	return nil
}

func checkReadable(sc *scope, s string) *fault {
	if s == "stdout" || s == "stderr" {
		return sc.needOutput(s)
	}
	return sc.file(s)
}

// needOutput checks that a command has left output.
func (sc *scope) needOutput(stream string) *fault {
	if sc.output && sc.printing != nil {
		return faultf("`wait` for the job first, or move the line in front of it",
			"%s is that of a command before the background job of line %d (`%s`)", stream, sc.printing.Line, sc.printing.Text)
	}
	if sc.output {
		return nil
	}
	return faultf("put the `exec` whose output is meant in front", "%s is not there yet: no command before leaves output", stream)
}

func checkNewFile(sc *scope, s string) *fault {
	if s == "stdout" || s == "stderr" {
		return faultf("name a file", "%s cannot be written to", s)
	}
	rel, f := sc.relative(s)
	if f == nil && rel == "." {
		return faultf("name a file in it", "%q is a folder", s)
	}
	return f
}

func checkPattern(s string, whole bool) *fault {
	if f := checkRegexp(s); f != nil {
		return f
	}
	return checkExtent(s, whole)
}

func checkRegexp(s string) *fault {
	if _, err := regexp.Compile(s); err != nil {
		return faultf("quote it in '...' and see the syntax of Go's package regexp", "bad regexp: %s",
			strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	}
	return nil
}

func checkDuration(_ *scope, s string) *fault {
	d, err := time.ParseDuration(s)
	if err != nil {
		return faultf("write a number with a unit, as in 500ms, 5s or 2m", "bad duration %q", s)
	}
	if d <= 0 {
		return faultf("write more than zero", "bad duration %q", s)
	}
	return checkLength(d)
}

// maxDuration bounds what a scenario can wait for: more is a mistake, and the factor
// by which deadlines are scaled has to fit behind it.
const maxDuration = 24 * time.Hour

func checkLength(d time.Duration) *fault {
	if d > maxDuration {
		return faultf("write a shorter one", "duration %s is longer than a day", d)
	}
	return nil
}

func checkInterval(_ *scope, s string) *fault {
	_, _, f := parseInterval(s)
	return f
}

// parseInterval reads MIN..MAX, a range of durations.
func parseInterval(s string) (least, most time.Duration, f *fault) {
	low, high, ok := strings.Cut(s, "..")
	if !ok {
		return 0, 0, faultf("write MIN..MAX, as in 2s..4s", "bad range %q", s)
	}
	least, err := time.ParseDuration(low)
	if err == nil {
		most, err = time.ParseDuration(high)
	}
	switch {
	case err != nil || least < 0:
		return 0, 0, faultf("write two durations with units, as in 2s..4s or 0s..500ms", "bad range %q", s)
	case least > most:
		return 0, 0, faultf("write the shorter one first", "bad range %q: no time is at least %s and at most %s", s, least, most)
	case least == most:
		return 0, 0, faultf("leave some room between the two", "bad range %q: no time is exactly %s", s, least)
	}
	return least, most, checkLength(most)
}

func checkCount(_ *scope, s string) *fault {
	if n, err := strconv.Atoi(s); err != nil || n < 1 {
		return faultf("write a whole number from 1", "bad count %q", s)
	}
	return nil
}

func checkExitStatus(_ *scope, s string) *fault {
	if n, err := strconv.Atoi(s); err != nil || n < 1 || n > 255 {
		return faultf("write a number from 1 to 255; without -status it must be 0", "bad exit status %q", s)
	}
	return nil
}

func checkSignal(_ *scope, s string) *fault {
	if name := strings.TrimPrefix(s, "SIG"); !signals[name] {
		next := didYouMean(name, slices.Collect(maps.Keys(signals)))
		if next == "" {
			next = "use a name such as TERM or KILL"
		}
		return faultf(next, "unknown signal %q", s)
	}
	return nil
}

func checkEndpoint(sc *scope, s string) *fault {
	_, f := sc.endpoint(s)
	return f
}

func checkSource(sc *scope, s string) *fault {
	_, f := sc.source(s)
	return f
}

// decodeHex reads hexadecimal digits. Space between bytes is for the reader.
func decodeHex(s string) ([]byte, error) {
	return hex.DecodeString(strings.ReplaceAll(s, " ", ""))
}

func checkHex(_ *scope, s string) *fault {
	if _, err := decodeHex(s); err != nil {
		return faultf("write two hexadecimal digits for each byte", "bad hex: %s", strings.TrimPrefix(err.Error(), "encoding/hex: "))
	}
	return nil
}

func checkVariable(sc *scope, s string) *fault {
	if m := variableName.FindString(s); m == "" || m != s {
		return faultf("use letters, digits and '_'", "%q is no name for a variable", s)
	}
	if _, ok := sc.known[s]; ok {
		return faultf("use another name", "variable %s is given by the rig", s)
	}
	return nil
}

func checkBudgetName(sc *scope, s string) *fault {
	if line, ok := sc.budgets[s]; ok {
		return faultf("end it first with `budget -end "+s+"`", "budget %q has already begun in line %d", s, line)
	}
	return nil
}

func checkOpenBudget(sc *scope, s string) *fault {
	if _, ok := sc.budgets[s]; ok {
		return nil
	}
	next := didYouMean(s, slices.Collect(maps.Keys(sc.budgets)))
	if next == "" {
		next = "begin it with `budget " + s + " DURATION`"
	}
	return faultf(next, "budget %q ends but has not begun", s)
}

func checkJob(sc *scope, s string) *fault {
	names := jobNames(sc)
	if slices.Contains(names, s) {
		return nil
	}
	next := didYouMean(s, names)
	if next == "" {
		next = "start one with '&" + s + "&' at the end of its line"
	}
	return faultf(next, "no background job %q is running here", s)
}

func fileNames(sc *scope) []string {
	return slices.Sorted(maps.Keys(sc.files))
}

func endpointNames(sc *scope) []string {
	var out []string
	for _, name := range sc.nodes {
		out = append(out, name+":")
	}
	return out
}

func jobNames(sc *scope) []string {
	var out []string
	for _, j := range sc.jobs {
		if j.name != "" {
			out = append(out, j.name)
		}
	}
	return out
}
