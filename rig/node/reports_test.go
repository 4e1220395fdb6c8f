package node

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"dsoftbus-rig/rig/console"
	"dsoftbus-rig/rig/record"
)

var update = flag.Bool("update", false, "write the tables of docs/reports.md anew")

// reportTexts returns the texts of a class in testdata: those of kernels as printk has them on a console with time stamps.
func reportTexts(t *testing.T, folder string) map[record.Reason][][]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "reports", folder, "*.txt"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	all := map[record.Reason][][]string{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		class := record.Reason(strings.TrimSuffix(filepath.Base(file), ".txt"))
		for text := range strings.SplitSeq(string(data), "\n---\n") {
			all[class] = append(all[class], strings.Split(strings.TrimSpace(text), "\n"))
		}
	}
	return all
}

// class returns the class of the first line that has one.
func class(lines []string, unit, stream string, change func(string) string) record.Reason {
	for _, text := range lines {
		if reason, _ := fatal(console.Line{Unit: unit, Stream: stream, Text: change(text)}); reason != "" {
			return reason
		}
	}
	return ""
}

var printed = regexp.MustCompile(`^(\[ *\d+\.\d+\]) `)

func TestEveryReportOfAKernelHasItsClass(t *testing.T) {
	forms := map[string]func(string) string{
		"as it is":                    func(s string) string { return s },
		"by a task":                   func(s string) string { return printed.ReplaceAllString(s, "$1[   T93] ") },
		"by a task, narrow":           func(s string) string { return printed.ReplaceAllString(s, "$1[ T93] ") },
		"by a processor":              func(s string) string { return printed.ReplaceAllString(s, "$1[    C0] ") },
		"without a newline in front":  func(s string) string { return "init: 2026/12/01 a prompt> " + s },
		"the same, with a caller":     func(s string) string { return "a prompt>" + printed.ReplaceAllString(s, "$1[    C0] ") },
		"without time stamps":         func(s string) string { return printed.ReplaceAllString(s, "") },
		"caller without a time stamp": func(s string) string { return printed.ReplaceAllString(s, "[    T1] ") },
		"with a level":                func(s string) string { return "<4>" + s },
	}
	all := reportTexts(t, "kernel")
	for want, texts := range all {
		for _, text := range texts {
			for form, change := range forms {
				if got := class(text, unitKernel, "console", change); got != want {
					t.Errorf("%s: %q, want %q: %s", form, got, want, change(text[0]))
				}
			}
			if got := class(text, "cat", "stdout", forms["as it is"]); got != "" {
				t.Errorf("a program that shows a kernel's log: %s: %s", got, text[0])
			}
		}
	}
	for _, r := range kernelReports {
		if all[r.class] == nil {
			t.Errorf("no recorded text of %s", r.class)
		}
		if !slices.ContainsFunc(all[r.class], func(text []string) bool {
			return slices.ContainsFunc(text, func(line string) bool { return r.matches(line, messages(line)) })
		}) && r.class != record.ProgramFault {
			t.Errorf("no recorded text of %s that %s matches", r.class, r.form)
		}
	}
}

// Texts that only a kernel prints count also where nothing says that a message begins there.
func TestReportsBehindTextOnAConsoleWithoutTimeStamps(t *testing.T) {
	for text, want := range map[string]record.Reason{
		"a prompt> BUG: soft lockup - CPU#0 stuck for 22s! [x:1]":                     record.SoftLockup,
		"a prompt> BUG: KASAN: slab-use-after-free in f+0x1/0x2":                      record.KASAN,
		"a prompt> BUG: unable to handle page fault for address: 0":                   record.KernelOops,
		"a prompt> Kernel panic - not syncing: x":                                     record.KernelPanic,
		"a prompt> divide error: 0000 [#1] SMP":                                       record.KernelOops,
		"[    1.0] debug: no BUG: here":                                               "",
		"[    1.0] x: WARNING: a driver's own word":                                   "",
		"[    1.0] Warning: unable to open an initial console.":                       "",
		"[    0.1] WARNING: workqueue cpumask: online intersect > possible intersect": "",
	} {
		if got, _ := fatal(console.Line{Unit: unitKernel, Stream: "console", Text: text}); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

func TestEveryReportOfAProgramHasItsClass(t *testing.T) {
	all := reportTexts(t, "stderr")
	onStdout := []record.Reason{record.MarkerFail, record.DataRace}
	for want, texts := range all {
		for _, text := range texts {
			same := func(s string) string { return s }
			if got := class(text, "prog", "stderr", same); got != want {
				t.Errorf("%q, want %q: %s", got, want, text[0])
			}
			got := class(text, "prog", "stdout", same)
			if slices.Contains(onStdout, want) && got != want || want == record.GoPanic && got != "" {
				t.Errorf("on stdout: %q: %s", got, text[0])
			}
		}
	}
	for _, r := range programReports {
		if all[r.class] == nil {
			t.Errorf("no recorded text of %s", r.class)
		}
	}
}

// Logs of boots and journals of scenarios in which all went well have no report in them.
func TestOrdinaryOutputIsNoReport(t *testing.T) {
	files, err := filepath.Glob("testdata/silent/*")
	if err != nil || len(files) < 2 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(data) {
			l := console.Line{Unit: unitKernel, Stream: "console", Text: strings.TrimRight(string(line), "\r\n")}
			if filepath.Ext(file) == ".journal" { // unit, stream, text
				l.Unit, l.Text, _ = strings.Cut(l.Text, "\t")
				l.Stream, l.Text, _ = strings.Cut(l.Text, "\t")
			}
			if reason, _ := fatal(l); reason != "" {
				t.Errorf("%s: %s: %s", file, reason, l.Text)
			}
		}
	}
}

// A panic behind other text without a newline is known by the stack that follows.
func TestGoCrashBehindOtherText(t *testing.T) {
	for _, c := range []struct {
		name, text, want string
	}{
		{"glued", "read 3 of 5panic: out of cheese\n\ngoroutine 1 [running]:\nmain.main()\n", "read 3 of 5panic: out of cheese"},
		{"glued, newer form", "50%panic: x\n\ngoroutine 7 gp=0xc0 m=0 mp=0x5 [running]:\nmain.f()\n", "50%panic: x"},
		{"at the start of a line", "panic: x\n\ngoroutine 1 [running]:\nmain.main()\n", ""},
		{"asked for", "SIGQUIT: quit\nPC=0x1\n\ngoroutine 1 [running]:\nmain.main()\n", ""},
		{"printed by itself", "here I am\ngoroutine 1 [running]:\nruntime/debug.Stack()\n", ""},
		{"another, later", "panic: x\n\ngoroutine 1 [running]:\nmain.main()\nexit\nread 1panic: y\n\ngoroutine 1 [running]:\nmain.main()\n", "read 1panic: y"},
		{"waiting ones", "dump\ngoroutine 1 [chan receive]:\nmain.main()\n", ""},
	} {
		var g goCrash
		got := ""
		for line := range strings.Lines(c.text) {
			got += g.next(strings.TrimSuffix(line, "\n"))
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestReportsAreDocumented(t *testing.T) {
	const file = "../../docs/reports.md"
	doc, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	row := func(cells ...string) string {
		for i := range cells {
			cells[i] = strings.ReplaceAll(cells[i], "|", `\|`)
		}
		return "| " + strings.Join(cells, " | ") + " |\n"
	}
	kernels, programs := "| class | form | from |\n|---|---|---|\n", "| class | form | on | from |\n|---|---|---|---|\n"
	for _, r := range kernelReports {
		kernels += row("`"+string(r.class)+"`", "`"+r.shown+"`", r.source)
	}
	for _, r := range programReports {
		where := "stderr"
		if r.where == onBoth {
			where = "both"
		}
		programs += row("`"+string(r.class)+"`", "`"+r.shown+"`", where, r.source)
	}
	want := string(doc)
	for name, table := range map[string]string{"kernels": kernels, "programs": programs} {
		head, rest, found := strings.Cut(want, fmt.Sprintf("<!-- %s -->\n", name))
		_, tail, end := strings.Cut(rest, "<!-- end -->")
		if !found || !end {
			t.Fatalf("%s has no place for the table of %s", file, name)
		}
		want = head + fmt.Sprintf("<!-- %s -->\n", name) + table + "<!-- end -->" + tail
	}
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if want != string(doc) {
		t.Errorf("%s is not what the tables say: go test ./rig/node -run %s -update", file, t.Name())
	}
	for _, r := range kernelReports {
		if !r.class.Reported() || !r.class.Known() {
			t.Errorf("%s is no class of reports", r.class)
		}
	}
}

func BenchmarkFatal(b *testing.B) {
	lines := []console.Line{
		{Unit: "dsoftbusd", Stream: "stdout", Text: "dsoftbusd: discovery peer learned node-b"},
		{Unit: "selftest-client", Stream: "stderr", Text: "2026/12/01 selftest-client: open pkg:/system/build.prop"},
		{Unit: unitKernel, Stream: "console", Text: "[    5.615024] x86/mm: Checked W+X mappings: passed, no W+X pages found."},
	}
	for _, l := range lines {
		b.Run(l.Unit, func(b *testing.B) {
			for b.Loop() {
				fatal(l)
			}
		})
	}
}
