package bench

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"dsoftbus-rig/rig/console"
)

// A unit is how a figure's values are shown.
type unit func(float64) string

// seconds shows a duration with the digits that mean something.
func seconds(s float64) string {
	switch {
	case s < 0.001:
		return fmt.Sprintf("%.0f µs", s*1e6)
	case s < 0.01:
		return fmt.Sprintf("%.1f ms", s*1e3)
	case s < 1:
		return fmt.Sprintf("%.0f ms", s*1e3)
	}
	return fmt.Sprintf("%.2f s", s)
}

func mebibytes(b float64) string { return fmt.Sprintf("%.1f MiB", b/(1<<20)) }
func megabytes(r float64) string { return fmt.Sprintf("%.2f MB/s", r) }
func times(r float64) string     { return fmt.Sprintf("%.2f", r) }
func perMinute(r float64) string { return fmt.Sprintf("%.0f /min", r) }

// labels are how phases and steps are called where their own names do not say it, in the order in which they come.
var labels = []struct{ name, label string }{
	{"network", "network"},
	{"qemu", "QEMU's start"},
	{"restore", "restore"},
	{"agent", "from resume to the agent's answer"},
	{"boot", "boot"},
	{"configure", "configure"},
	{"services", "services"},
	{"script", "script"},
	{"teardown", "teardown"},
}

// A table is a report while it is written.
type table struct {
	w       *tabwriter.Writer
	targets []Target
}

// row writes one figure; target is its path when it has a target.
func (t *table) row(label string, s *Samples, u unit, target string) {
	if s != nil {
		t.line(label, u(s.Median), u(s.P95), u(s.Max), fmt.Sprint(len(s.Samples)), u, target)
	}
}

// value writes a figure that has one value.
func (t *table) value(label string, v float64, u unit, target string) {
	if v > 0 {
		t.line(label, u(v), "", "", "", u, target)
	}
}

func (t *table) line(label, median, p95, most, rounds string, u unit, figure string) {
	limit, verdict := "", ""
	for _, target := range t.targets {
		if target.Figure != figure {
			continue
		}
		limit, verdict = "at most "+u(target.AtMost), "missed"
		if target.AtLeast > 0 {
			limit = "at least " + u(target.AtLeast)
		}
		if target.Reached {
			verdict = "reached"
		}
	}
	t.cells(label, median, p95, most, rounds, limit, verdict)
}

// cells writes one row, in which every cell but the last has its column's width.
func (t *table) cells(cells ...string) { fmt.Fprintln(t.w, strings.Join(cells, "\t")) }

// parts writes the parts of a figure in the order of labels; those without a label come last.
func (t *table) parts(prefix string, of map[string]*Samples, u unit) {
	rest := maps.Clone(of)
	for _, l := range labels {
		t.row(prefix+l.label, of[l.name], u, "")
		delete(rest, l.name)
	}
	for _, name := range slices.Sorted(maps.Keys(rest)) {
		t.row(prefix+console.Clean(name), rest[name], u, "")
	}
}

// WriteTable writes the report for people.
func (r *Report) WriteTable(w io.Writer) error {
	if _, err := io.WriteString(w, r.head()); err != nil {
		return err
	}
	var body bytes.Buffer
	t := &table{w: tabwriter.NewWriter(&body, 0, 0, 2, ' ', 0), targets: r.Targets}
	t.cells("", "median", "p95", "max", "rounds", "target", "")
	if p := r.Pair; p != nil {
		t.row("pair from the kernel, both agents configured", p.Cold, seconds, "")
		t.row("pair of clones, both agents configured", p.Warm, seconds, figureWarm)
		t.parts("  both: ", p.WarmPhases, seconds)
		t.parts("  each: ", p.WarmNodes, seconds)
		t.value("kernel over clones", p.ColdOverWarm, times, figureColdWarm)
		t.row("teardown of a pair of clones", p.Teardown, seconds, figureTeardown)
	}
	if m := r.Memory; m != nil {
		t.row("memory of two idle clones (PSS of QEMU)", m.Idle.Two, mebibytes, "")
		t.row("  of three", m.Idle.Three, mebibytes, "")
		t.row("memory that a further idle clone adds", m.Idle.Further, mebibytes, figureMemory)
		t.row("memory of two clones with their services", m.Serving.Two, mebibytes, "")
		t.row("  of three", m.Serving.Three, mebibytes, "")
		t.row("  that a further one adds", m.Serving.Further, mebibytes, "")
	}
	if rt := r.Roundtrip; rt != nil {
		t.row(roundtripName+", whole", rt.Whole, seconds, figureRoundtrip)
		t.parts("  ", rt.Phases, seconds)
	}
	if s := r.Suite; s != nil {
		if s.OneJob != nil {
			t.value(fmt.Sprintf("%d scenarios, one at a time", len(s.Scenarios)), s.OneJob.PerMinute, perMinute, "")
		}
		if s.Default != nil {
			t.value(fmt.Sprintf("%d scenarios, default -j", len(s.Scenarios)), s.Default.PerMinute, perMinute, figureSuite)
		}
	}
	if l := r.Link; l != nil {
		t.row("ping, a round's median", l.PingMedian, seconds, "")
		t.row("ping, a round's p95", l.PingP95, seconds, "")
		t.row("TCP", l.TCP, megabytes, "")
		t.row("Noise records", l.Noise, megabytes, "")
		for _, read := range l.Reads {
			way := "pipelined"
			if !read.Pipelined {
				way = "one by one"
			}
			t.row(fmt.Sprintf("reads of %d bytes, %s", read.Chunk, way), read.Rate, megabytes, "")
		}
		t.row("pipelined reads of 32768 bytes over Noise", l.ReadsOverNoise, times, figureNoise)
		t.row("reads of 128 bytes, pipelined over one by one", l.PipelinedOverSingle, times, figurePipeline)
	}
	if err := t.w.Flush(); err != nil {
		return err
	}
	for line := range strings.Lines(body.String()) {
		// A row without a target ends in the columns' empty space.
		if _, err := fmt.Fprintln(w, strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	_, err := io.WriteString(w, r.foot())
	return err
}

// head says what was measured on.
func (r *Report) head() string {
	var b strings.Builder
	fmt.Fprintln(&b, console.Clean(r.Host.Line))
	fmt.Fprintf(&b, "%d cores", r.Host.Cores)
	if r.Host.Processor != "" {
		fmt.Fprintf(&b, " (%s)", console.Clean(r.Host.Processor))
	}
	if len(r.Host.Load) == 3 {
		fmt.Fprintf(&b, ", load average at the start %.2f, %.2f, %.2f", r.Host.Load[0], r.Host.Load[1], r.Host.Load[2])
	}
	return b.String() + "\n\n"
}

// foot says what came of it.
func (r *Report) foot() string {
	var b strings.Builder
	if r.Link != nil && r.Link.PingLost > 0 {
		fmt.Fprintf(&b, "\n%d pings were lost\n", r.Link.PingLost)
	}
	for _, e := range r.Errors {
		lines := strings.Split(strings.TrimSpace(e.Error), "\n")
		for i, line := range lines {
			lines[i] = console.Clean(line)
		}
		fmt.Fprintf(&b, "\n%s is not complete: %s\n", e.Group, strings.Join(lines, "\n  "))
	}
	fmt.Fprintf(&b, "\n%d of %d targets reached, in %s\n", len(r.Targets)-r.Missed(), len(r.Targets), seconds(r.Seconds))
	return b.String()
}
