package cover

import (
	"bufio"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"golang.org/x/tools/cover"
)

// WriteProfile writes what either has reached as a profile of `go tool cover`, of mode "set".
func (c *Coverage) WriteProfile(w io.Writer) error {
	out := bufio.NewWriter(w)
	fmt.Fprintln(out, "mode: set")
	for _, f := range c.Files {
		for _, b := range f.Blocks {
			count := 0
			if b.By != ByNobody {
				count = 1
			}
			fmt.Fprintf(out, "%s:%d.%d,%d.%d %d %d\n", f.Name, b.line, b.col, b.endLine, b.endCol, b.Statements, count)
		}
	}
	return out.Flush()
}

// WriteTable writes the figures of each package, in percent of its statements, a line each.
func (c *Coverage) WriteTable(w io.Writer, module string) error {
	width := len("package")
	packages := c.Packages()
	for i := range packages {
		packages[i].Package = strings.TrimPrefix(packages[i].Package, module+"/")
		width = max(width, len(packages[i].Package))
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', tabwriter.AlignRight)
	columns := "statements\tmachines\t"
	if c.WithHost {
		columns = "statements\thost\tmachines\ttogether\tmachines only\t"
	}
	fmt.Fprintf(t, "%-*s\t%s\n", width, "package", columns)
	for _, p := range packages {
		fmt.Fprintf(t, "%-*s\t%d\t", width, p.Package, p.All)
		if c.WithHost {
			fmt.Fprintf(t, "%s\t", percent(p.Host, p.All))
		}
		fmt.Fprintf(t, "%s\t", percent(p.Machines, p.All))
		if c.WithHost {
			fmt.Fprintf(t, "%s\t%s\t", percent(p.Together, p.All), percent(p.Only, p.All))
		}
		fmt.Fprintln(t)
	}
	return t.Flush()
}

func percent(n, of int) string {
	if of == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f", 100*float64(n)/float64(of))
}

//go:embed page.html
var pageText string

var page = template.Must(template.New("page").Funcs(template.FuncMap{"percent": percent}).Parse(pageText))

// A shownFile is a file of the page.
type shownFile struct {
	ID, Name string
	Figures
	Lines []shownLine
}

// A shownLine is a line of source, as the parts that one or another has reached.
type shownLine struct {
	Number int
	Class  string // of its number: "m" where machines alone have reached something
	Parts  []shownPart
}

type shownPart struct{ Class, Text string }

// classes are those of the page's parts, by By; what is no statement has none.
var classes = map[By]string{ByNobody: "n", ByHost: "h", ByMachines: "m", ByBoth: "b"}

// WriteHTML writes a page with the figures and every file, in which who has reached what has a colour. The source of module lies in dir.
func (c *Coverage) WriteHTML(w io.Writer, module, dir string) error {
	data := struct {
		WithHost bool
		Packages []Figures
		Files    []shownFile
	}{WithHost: c.WithHost, Packages: c.Packages()}
	for i, f := range c.Files {
		name, ours := strings.CutPrefix(f.Name, module+"/")
		if !ours {
			return fmt.Errorf("write coverage: %s is no file of %s", f.Name, module)
		}
		source, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
		if err != nil {
			return fmt.Errorf("write coverage: %w", err)
		}
		data.Files = append(data.Files, shownFile{ID: fmt.Sprintf("f%d", i), Name: name, Figures: f.figures(), Lines: f.show(source)})
	}
	out := bufio.NewWriter(w)
	if err := page.Execute(out, data); err != nil {
		return fmt.Errorf("write coverage: %w", err)
	}
	return out.Flush()
}

// show cuts a file's source into lines and parts.
func (f *File) show(source []byte) []shownLine {
	p := cover.Profile{Mode: "set"}
	for _, b := range f.Blocks {
		p.Blocks = append(p.Blocks, cover.ProfileBlock{StartLine: b.line, StartCol: b.col, EndLine: b.endLine, EndCol: b.endCol, NumStmt: b.Statements, Count: int(b.By)})
	}
	line := shownLine{Number: 1}
	var lines []shownLine
	class := ""
	put := func(text string) {
		for {
			part, rest, more := strings.Cut(text, "\n")
			if part != "" {
				line.Parts = append(line.Parts, shownPart{class, part})
				if class == classes[ByMachines] && strings.TrimSpace(part) != "" {
					line.Class = class
				}
			}
			if !more {
				return
			}
			lines = append(lines, line)
			line = shownLine{Number: line.Number + 1}
			text = rest
		}
	}
	at := 0
	for _, b := range p.Boundaries(source) {
		put(string(source[at:b.Offset]))
		at = b.Offset
		class = ""
		if b.Start {
			class = classes[By(b.Count)]
		}
	}
	put(string(source[at:]))
	if len(line.Parts) > 0 {
		lines = append(lines, line)
	}
	return lines
}
