// Package webreport writes a recorded run as one HTML page, for whoever did not write the scenarios and must know in a minute what broke, and
// where.
//
// The page is one file and asks nothing of any network: template, style and script are embedded, and a content security policy lets nothing else
// run. What machines and programs printed is hostile: it reaches the page as text of html/template or inside of JSON with every character that
// means anything to HTML escaped, and the script only ever sets it as text. Escapes and control characters are written out (console.Clean).
//
// Verdicts and failures are plain HTML, so they can be read where no script runs. What belongs to one scenario (script, time line, lines of nodes)
// is JSON that is parsed when the scenario is opened, so that a large run opens as fast as a small one.
//
// The package reads a record and the files in its folder. It decides no verdict and changes nothing of the record.
package webreport

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"dsoftbus-rig/rig/record"
)

// File is what the page is called in a run's folder.
const File = "report.html"

// A Tick is something that went from one node to another: a packet, say. Ticks are drawn between the lanes of the nodes.
type Tick struct {
	T        float64 `json:"t"`    // seconds since the scenario's start
	From, To string  `json:"-"`    // names of nodes ("A"); another name, or none, is beside all nodes: the rig, or a broadcast
	Kind     string  `json:"kind"` // a few words at most: ticks of one kind have one colour ("arp", "announce", "tcp")
	Text     string  `json:"text"` // what it was, for whoever points at it
}

// Options say what a page has beside the record itself. The zero value is a page without ticks and history.
type Options struct {
	// Out is the file that the page will be in; links to the record's files are relative to its folder. Empty: the run's folder.
	Out string

	// Source is the project's folder. Empty: the files of scenarios are not looked for.
	Source string

	// Ticks are those of each scenario by its name in the run, in any order.
	Ticks map[string][]Tick

	// History has how long each scenario took in earlier runs, in seconds, oldest first, by its own name (of a further playing: by
	// ScenarioSummary.Of). This run is not among them.
	History map[string][]float64

	// Notes are what scenarios are beside earlier runs, by their own names.
	Notes map[string][]Note
}

// A Note says what a scenario's result is, seen against earlier runs: new, or known.
type Note struct {
	Text   string // behind the scenario's name, such as "fails for the first time in 12 playings"
	Slower bool   // it passed, and took longer than usual
}

//go:embed page.html page.css page.js
var files embed.FS

func asset(name string) string {
	data, err := files.ReadFile(name)
	if err != nil {
		panic(err) // it is embedded
	}
	return string(data)
}

var (
	style  = asset("page.css")
	script = asset("page.js")
	page   = template.Must(template.New("page").Parse(asset("page.html")))
)

// policy is the page's content security policy: its own style and its own script, by their hashes, and nothing else from anywhere.
func policy() string {
	return fmt.Sprintf("default-src 'none'; script-src %s; style-src %s; base-uri 'none'; form-action 'none'", hash(script), hash(style))
}

func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// Write writes the page of a run to w. Files of the record that cannot be read are named on the page and are no error; errors are those of w.
func Write(w io.Writer, rec *record.Record, o Options) error {
	out := rec.Dir
	if o.Out != "" {
		out = filepath.Dir(o.Out)
	}
	links := newLinks(out, rec.Dir)
	events := map[string][]record.Event{}
	for _, e := range rec.Events {
		if e.Scenario != "" {
			events[e.Scenario] = append(events[e.Scenario], e)
		}
	}
	v := newView(rec, events, o, links)
	v.Policy = policy()
	// Ours, and the policy's hashes are of these very bytes.
	v.Style, v.Script, v.Data = template.HTML("<style>"+style+"</style>"), template.HTML("<script>"+script+"</script>"), dataMark

	var b bytes.Buffer
	if err := page.Execute(&b, v); err != nil {
		return fmt.Errorf("write the page of run %s: %w", rec.Summary.Name, err)
	}
	before, after, found := bytes.Cut(b.Bytes(), []byte(dataMark))
	if !found {
		return fmt.Errorf("write the page of run %s: the template has no %q", rec.Summary.Name, dataMark)
	}
	if _, err := w.Write(before); err != nil {
		return fmt.Errorf("write the page of run %s: %w", rec.Summary.Name, err)
	}
	// One at a time: the lines of all nodes together may be many.
	for i, c := range v.order {
		if err := writeData(w, i, newDetail(rec.Dir, &rec.Summary.Scenarios[c], events[rec.Summary.Scenarios[c].Name], o, links)); err != nil {
			return fmt.Errorf("write scenario %s of run %s: %w", rec.Summary.Scenarios[c].Name, rec.Summary.Name, err)
		}
	}
	if _, err := w.Write(after); err != nil {
		return fmt.Errorf("write the page of run %s: %w", rec.Summary.Name, err)
	}
	return nil
}

// dataMark is where the template wants the scenarios' data. A machine cannot have printed it into the page: its `<` would be escaped.
const dataMark = "<!--data-->"

// writeData writes one scenario's data as an element that browsers neither run nor show. encoding/json escapes <, >, & and the line separators
// U+2028 and U+2029, so nothing in it can end the element, or a comment inside of it.
func writeData(w io.Writer, i int, d *detail) error {
	data, err := json.Marshal(d)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "<script type=\"application/json\" id=\"d%d\">%s</script>\n", i, data)
	return err
}

// inOrder returns the indices of scenarios as they are listed: what asks for
// somebody's attention first, then the others by area; else as they were
// planned.
func inOrder(all []record.ScenarioSummary) []int {
	order := make([]int, len(all))
	for i := range order {
		order[i] = i
	}
	rank := func(i int) int {
		switch r := all[i].Result; {
		case r.Green():
			return 3
		case r == record.Interrupted:
			return 2
		case r == record.Repaired || r == record.Unproven:
			return 1
		}
		return 0
	}
	slices.SortStableFunc(order, func(a, b int) int {
		if by := cmp.Compare(rank(a), rank(b)); by != 0 || !all[a].Result.Green() {
			return by
		}
		return strings.Compare(area(&all[a]), area(&all[b]))
	})
	return order
}

// own is the scenario's own name, whichever playing of it this is.
func own(c *record.ScenarioSummary) string {
	if c.Of != "" {
		return c.Of
	}
	return c.Name
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
	return s
}
