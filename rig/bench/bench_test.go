package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"dsoftbus-rig/images"
	"dsoftbus-rig/rig/host"
	"dsoftbus-rig/rig/record"
	"dsoftbus-rig/rig/scenario"
	"dsoftbus-rig/rig/suite"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files")

// Measuring the suite runs a program: in these tests this one, which leaves the record that `rig run` would.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "run" {
		os.Exit(playedRun(os.Args[2:]))
	}
	os.Exit(m.Run())
}

// playedRun is `rig run -runs DIR [-j 1] NAME...`; scenarios called fail/... fail, and those called hang/... wait for the signal.
func playedRun(args []string) int {
	flags := flag.NewFlagSet("run", flag.ExitOnError)
	runs := flags.String("runs", "", "")
	flags.Int("j", 0, "")
	_ = flags.Parse(args)
	run, err := record.Create(*runs, "suite", nil)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	for _, name := range flags.Args() {
		end := record.Event{Kind: record.KindScenarioEnd, Scenario: name, Result: record.Passed}
		switch {
		case strings.HasPrefix(name, "fail/"):
			end.Result, end.Failure = record.Failed, &record.Failure{Reason: record.StepFailed}
			fmt.Println("FAIL", name)
		case strings.HasPrefix(name, "hang/"):
			ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
			<-ctx.Done()
			stop()
			end.Result = record.Interrupted
		}
		if err := run.Append(end); err != nil {
			fmt.Println(err)
			return 1
		}
	}
	summary, err := run.Finish(nil)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return summary.Exit
}

func testItems(t *testing.T, names ...string) []suite.Item {
	t.Helper()
	var items []suite.Item
	for _, name := range names {
		text := "up\n"
		if strings.HasPrefix(name, "slow/") {
			text += "sleep 1s\n"
		}
		script, err := scenario.Parse(name, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		items = append(items, suite.Item{Name: name, Script: script})
	}
	return items
}

func testConfig(t *testing.T, names ...string) Config {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return Config{
		Groups: []string{GroupSuite}, Host: &host.Host{Accel: "tcg", Slowdown: 1}, Images: &images.Set{}, Items: testItems(t, names...),
		Run: []string{self, "run"}, // without a Log, which is optional
	}
}

// inTemp has temporary files made in a folder of the test's, and checks at its end that none is left.
func inTemp(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	t.Cleanup(func() {
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	})
}

func TestSuite(t *testing.T) {
	inTemp(t)
	r, err := Run(t.Context(), testConfig(t, "a/one", "a/two", "slow/three"))
	if err != nil || len(r.Errors) > 0 {
		t.Fatal(err, r.Errors)
	}
	if want := []string{"a/one", "a/two"}; !slices.Equal(r.Suite.Scenarios, want) {
		t.Errorf("scenarios %v, want %v", r.Suite.Scenarios, want)
	}
	for _, pace := range []*Pace{r.Suite.OneJob, r.Suite.Default} {
		if pace == nil || pace.Seconds <= 0 || math.Abs(pace.PerMinute*pace.Seconds/60-2) > 1e-9 {
			t.Errorf("pace %+v", pace)
		}
	}
}

func TestASuiteThatFailsIsNoFigure(t *testing.T) {
	inTemp(t)
	r, err := Run(t.Context(), testConfig(t, "a/one", "fail/two"))
	if err != nil {
		t.Fatal(err)
	}
	if r.Suite.OneJob != nil || len(r.Errors) != 1 || r.Errors[0].Group != GroupSuite || !strings.Contains(r.Errors[0].Error, "FAIL fail/two") {
		t.Errorf("%+v %+v", r.Suite, r.Errors)
	}
}

func TestAnInterruptEndsTheSuite(t *testing.T) {
	inTemp(t)
	// Its end may come before the program has begun, which has to be right too.
	ctx, cancel := context.WithTimeoutCause(t.Context(), 200*time.Millisecond, errors.New("enough"))
	defer cancel()
	cfg := testConfig(t, "hang/one")
	cfg.Groups = []string{GroupLink, GroupSuite}
	r, err := Run(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if want := []GroupError{{GroupSuite, "enough"}}; !slices.Equal(r.Errors, want) {
		t.Errorf("errors %v, want %v: the others had not begun", r.Errors, want)
	}
}

func TestStatistics(t *testing.T) {
	upTo := func(n int) (values []float64) {
		for i := n; i > 0; i-- {
			values = append(values, float64(i))
		}
		return values
	}
	for _, tt := range []struct {
		values      []float64
		median, p95 float64
	}{
		{[]float64{7}, 7, 7},
		{[]float64{3, 1}, 2, 3},
		{[]float64{9, 1, 5}, 5, 9},
		{upTo(19), 10, 19},
		{upTo(20), 10.5, 19},
		{upTo(21), 11, 20},
		{upTo(100), 50.5, 95},
	} {
		s := sampled(tt.values)
		if s.Median != tt.median || s.P95 != tt.p95 || s.Min != slices.Min(tt.values) || s.Max != slices.Max(tt.values) {
			t.Errorf("%v: %+v", tt.values, s)
		}
		if !slices.Equal(s.Samples, tt.values) {
			t.Errorf("%v became %v", tt.values, s.Samples)
		}
	}
	if sampled(nil) != nil {
		t.Error("no values have samples")
	}
	if got := quotients([]float64{2, 9, 1}, []float64{4, 3}); !slices.Equal(got, []float64{0.5, 3}) {
		t.Errorf("quotients %v", got)
	}
}

func phase(node, name string, seconds float64) record.Event {
	return record.Event{Kind: record.KindPhase, Node: node, Name: name, Seconds: seconds}
}

// A node's step may be called like a phase of the scenario: they are told apart by the node.
func TestPairOfEvents(t *testing.T) {
	tally := &pairTally{phases: tally{}, nodes: tally{}}
	warm := events{
		phase("", "network", 0.5), phase("A", "qemu", 0.01), phase("B", "qemu", 0.03), phase("A", "configure", 0.07),
		phase("", "boot", 0.1), phase("", "configure", 0.25), phase("", "script", 0.5), phase("", "teardown", 0.125),
	}
	if err := tally.addWarm(warm); err != nil {
		t.Fatal(err)
	}
	if err := tally.addCold(events{phase("", "boot", 3), phase("", "configure", 0.5)}); err != nil {
		t.Fatal(err)
	}
	p := tally.pair()
	if p.Warm.Median != 0.35 || p.Cold.Median != 3.5 || p.ColdOverWarm != 10 || p.Teardown.Median != 0.125 {
		t.Errorf("pair %+v", p)
	}
	if len(p.WarmPhases) != 2 || p.WarmPhases["configure"].Median != 0.25 {
		t.Errorf("phases %v", p.WarmPhases)
	}
	if len(p.WarmNodes) != 2 || p.WarmNodes["qemu"].Median != 0.02 || p.WarmNodes["configure"].Median != 0.07 {
		t.Errorf("nodes %v", p.WarmNodes)
	}
	for _, lacking := range []events{nil, warm[:4], warm[:len(warm)-1]} {
		if err := tally.addWarm(lacking); err == nil || !strings.Contains(err.Error(), "no phase") {
			t.Errorf("%d events: %v", len(lacking), err)
		}
	}
	if len(tally.warm) != 1 || len(tally.teardown) != 1 {
		t.Error("a round that is not whole was counted")
	}
}

func TestVerdict(t *testing.T) {
	end := func(r record.Result, f *record.Failure) events {
		return events{{Kind: record.KindScenarioEnd, Result: r, Failure: f, Text: "why"}}
	}
	for _, tt := range []struct {
		events events
		want   string
	}{
		{end(record.Passed, nil), ""},
		{end(record.Failed, &record.Failure{Reason: record.StepFailed, Message: "no"}), "no (step-failed)"},
		{end(record.Skipped, nil), "it was skipped: why"},
		{nil, "it has no verdict"},
	} {
		got := ""
		if err := tt.events.verdict(); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}

func TestMemoryFiles(t *testing.T) {
	n, err := parsePss([]byte("55d0-7ffe ---p 0 00:00 0 [rollup]\nRss:   200 kB\nPss:   100 kB\nPss_Dirty: 7 kB\n"))
	if n != 100<<10 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := parsePss([]byte("Rss: 200 kB\n")); err == nil {
		t.Error("a file without Pss was read")
	}
	pid, parent, err := parseStat([]byte("12 (a (b) 9 S) 3) S 7 12 12\n"))
	if pid != 12 || parent != 7 || err != nil {
		t.Errorf("%d, %d, %v", pid, parent, err)
	}
	if _, _, err := parseStat([]byte("12")); err == nil {
		t.Error("half a line was read")
	}
	cat := exec.Command("cat")
	stdin, err := cat.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cat.Start(); err != nil {
		t.Fatal(err)
	}
	tree, err := processTree()
	if err != nil || !slices.Contains(tree[os.Getpid()], cat.Process.Pid) {
		t.Errorf("%d is not among %v, %v", cat.Process.Pid, tree[os.Getpid()], err)
	}
	stdin.Close()
	if err := cat.Wait(); err != nil {
		t.Error(err)
	}
}

func TestParseWords(t *testing.T) {
	keys := []string{"bytes", "MB/s"}
	words, numbers, err := parseWords("bytes=7 new=x MB/s=1.5 sha256=ab\n", keys)
	if err != nil || numbers["bytes"] != 7 || numbers["MB/s"] != 1.5 || words["sha256"] != "ab" {
		t.Errorf("%v %v %v", words, numbers, err)
	}
	for _, line := range []string{"", "bytes=7", "bytes=7 MB/s=", "bytes=7 MB/s=fast", "bytes=7 MB/s=-1", "bytes=7 MB/s=NaN", "bytes=7 MB/s=+Inf"} {
		if _, _, err := parseWords(line, keys); err == nil || !strings.Contains(err.Error(), "MB/s") && line != "" {
			t.Errorf("%q: %v", line, err)
		}
	}
}

// Every script is a well-formed scenario, with all a round has in it.
func TestScripts(t *testing.T) {
	p := &player{cfg: &Config{}, dir: t.TempDir()}
	for _, name := range []string{"warm", "cold", "idle-2", "idle-3", "serving-2", "serving-3"} {
		if _, err := p.embedded(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	text := piece()
	if len(text) != pieceSize || !bytes.Equal(text, piece()) {
		t.Errorf("a piece of %d bytes, or another one each time", len(text))
	}
	probes := linkProbes(bytes.Repeat(text, pieceCopies))
	script, err := linkScenario(probes, 3, text)
	if err != nil {
		t.Fatal(err)
	}
	item, err := p.item("link", script)
	if err != nil {
		t.Fatal(err)
	}
	if fixtures := item.Script.NodeFixtures("B"); len(fixtures) != 1 || !bytes.Equal(fixtures[0].Data, text) {
		t.Error("the piece is not on node B")
	}
	for _, probe := range probes {
		if n := strings.Count(string(script), " A "+probe.command+"\n"); n != 3 {
			t.Errorf("%s is there %d times", probe.command, n)
		}
	}
}

// linkEvents are what rounds of the link print; rates of a round are those of the first, times its number.
func linkEvents(probes []linkProbe, rounds int, file []byte) events {
	es := events{
		{Kind: record.KindStepStart, Step: 1, Text: "up"},
		{Kind: record.KindStepEnd, Step: 1},
	}
	for round := range rounds {
		for i, probe := range probes {
			step := len(es)
			rate := float64(round * (i + 1))
			line := fmt.Sprintf("bytes=%d seconds=1 MB/s=%v requests/s=%v", streamBytes, rate, 10*rate)
			if i == 0 {
				line = fmt.Sprintf("count=100 lost=1 min_us=1 median_us=%d p95_us=%d max_us=9000", 100*round, 200*round)
			}
			if i >= 3 {
				size := reads[i-3].Bytes
				line = fmt.Sprintf("bytes=%d seconds=1 MB/s=%v requests=9 requests/s=%v sha256=%s", size, rate, 10*rate, digestOf(file[:size]))
			}
			es = append(es,
				record.Event{Kind: record.KindStepStart, Step: step, Text: "exec -within 30s A " + probe.command},
				record.Event{Kind: record.KindOutput, Step: step, Stream: "stderr", Text: "noise=1\n"},
				record.Event{Kind: record.KindOutput, Step: step, Stream: "stdout", Text: line[:7]},
				record.Event{Kind: record.KindOutput, Step: step, Stream: "stdout", Text: line[7:] + "\n"},
				record.Event{Kind: record.KindStepEnd, Step: step},
			)
		}
	}
	return es
}

func TestLinkOfEvents(t *testing.T) {
	file := bytes.Repeat(piece(), pieceCopies)
	probes := linkProbes(file)
	es := linkEvents(probes, 4, file)
	l, err := readLink(es, probes)
	if err != nil {
		t.Fatal(err)
	}
	// Round 0 is not counted.
	if !slices.Equal(l.TCP.Samples, []float64{2, 4, 6}) || l.Noise.Median != 6 || l.PingLost != 3 || l.PingMedian.Median != 0.0002 || l.PingP95.Median != 0.0004 {
		t.Errorf("link %+v, TCP %v", l, l.TCP)
	}
	if len(l.Reads) != len(reads) || l.Reads[0].Rate.Median != 8 || l.Reads[0].Requests.Median != 80 {
		t.Errorf("reads %+v", l.Reads)
	}
	if l.ReadsOverNoise.Median != 8.0/3 || l.PipelinedOverSingle.Median != 4.0/5 {
		t.Errorf("ratios %+v, %+v", l.ReadsOverNoise, l.PipelinedOverSingle)
	}
	// What ends in the middle leaves what was measured.
	if l, err := readLink(es[:len(es)-20], probes); err != nil || len(l.TCP.Samples) != 3 || len(l.ReadsOverNoise.Samples) != 2 {
		t.Errorf("a part: %+v, %v", l, err)
	}
	if l, err := readLink(nil, probes); l != nil || err != nil {
		t.Errorf("nothing: %+v, %v", l, err)
	}
	for _, damage := range []struct{ from, to, want string }{
		{"sha256=", "sha256=0", "what came is not what is there"},
		{"requests/s=", "per_second=", "no requests/s="},
		{"median_us=", "median_us=-", "no number"},
		{fmt.Sprintf("bytes=%d", streamBytes), "bytes=17", "17 bytes came"},
	} {
		bad := slices.Clone(es)
		for i := range bad {
			if bad[i].Stream == "stdout" && !strings.HasSuffix(bad[i].Text, "\n") {
				bad[i].Text += bad[i+1].Text
				bad[i+1].Text = ""
				bad[i].Text = strings.ReplaceAll(bad[i].Text, damage.from, damage.to)
			}
		}
		if _, err := readLink(bad, probes); err == nil || !strings.Contains(err.Error(), damage.want) {
			t.Errorf("%s: %v", damage.to, err)
		}
	}
}

// synthetic is a report with every figure.
func synthetic(t *testing.T) *Report {
	file := bytes.Repeat(piece(), pieceCopies)
	probes := linkProbes(file)
	link, err := readLink(linkEvents(probes, 3, file), probes)
	if err != nil {
		t.Fatal(err)
	}
	one := func(v float64) *Samples { return sampled([]float64{v, v * 2, v * 3}) }
	r := &Report{
		Schema: Schema, Started: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Seconds: 61.5,
		Host: Host{Host: record.Host{QEMU: "7.2", Accel: "tcg", Slowdown: 5, Line: "QEMU 7.2, \x1b[2Ja kernel"}, Processor: "A Processor", Cores: 2, Load: []float64{0.5, 1, 2.25}},
		Pair: &Pair{
			Cold: one(1.4), Warm: one(0.07), ColdOverWarm: 20, Teardown: one(0.1),
			WarmPhases: map[string]*Samples{"configure": one(0.02), "boot": one(0.05)},
			WarmNodes:  map[string]*Samples{"agent": one(0.0031), "qemu": one(0.05), "zzz": one(0.0001), "restore": one(0.02), "configure": one(0.02)},
		},
		Memory: &Memory{
			Idle:    Clones{Two: one(80 << 20), Three: one(100 << 20), Further: one(20 << 20)},
			Serving: Clones{Two: one(120 << 20), Three: one(170 << 20), Further: one(50 << 20)},
		},
		Roundtrip: &Roundtrip{Whole: one(0.6), Phases: map[string]*Samples{"script": one(0.1), "network": one(0.001)}},
		Suite:     &Suite{Scenarios: []string{"a/one", "a/two"}, OneJob: &Pace{Seconds: 4, PerMinute: 30}, Default: &Pace{Seconds: 2, PerMinute: 60}},
		Link:      link,
		Errors:    []GroupError{{GroupLink, "it\x07 broke\non two lines"}},
	}
	r.Targets = targets(r)
	return r
}

func TestGolden(t *testing.T) {
	r := synthetic(t)
	for name, write := range map[string]func(*bytes.Buffer) error{
		"table.golden": func(b *bytes.Buffer) error { return r.WriteTable(b) },
		"report.json":  func(b *bytes.Buffer) error { return r.WriteJSON(b) },
	} {
		var got bytes.Buffer
		if err := write(&got); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got.String()); diff != "" {
			t.Errorf("%s (-want +got); write it anew with -update:\n%s", name, diff)
		}
	}
}

// A target names its figure by a path that leads to it in the JSON.
func TestTargetsNameTheirFigures(t *testing.T) {
	r := synthetic(t)
	var out bytes.Buffer
	if err := r.WriteJSON(&out); err != nil {
		t.Fatal(err)
	}
	var tree map[string]any
	if err := json.Unmarshal(out.Bytes(), &tree); err != nil {
		t.Fatal(err)
	}
	for _, target := range r.Targets {
		at := any(tree)
		for step := range strings.SplitSeq(target.Figure, ".") {
			object, _ := at.(map[string]any)
			at = object[step]
		}
		if at != target.Value {
			t.Errorf("%s is %v, the target says %v", target.Figure, at, target.Value)
		}
	}
	if len(r.Targets) != 8 {
		t.Errorf("%d targets", len(r.Targets))
	}
}

// A limit itself is reached, from either side; a report without figures has no targets.
func TestTargets(t *testing.T) {
	reached := map[string]bool{}
	r := &Report{
		Pair:  &Pair{Warm: sampled([]float64{0.150}), Teardown: sampled([]float64{0.1001}), ColdOverWarm: 20},
		Suite: &Suite{Default: &Pace{PerMinute: 59.9}},
	}
	for _, target := range targets(r) {
		reached[target.Figure] = target.Reached
	}
	want := map[string]bool{figureWarm: true, figureTeardown: false, figureColdWarm: true, figureSuite: false}
	if diff := cmp.Diff(want, reached); diff != "" {
		t.Error(diff)
	}
	if got := targets(&Report{Pair: &Pair{}, Memory: &Memory{}, Roundtrip: &Roundtrip{}, Suite: &Suite{}, Link: &Link{}}); len(got) != 0 {
		t.Errorf("targets of nothing: %v", got)
	}
}

func TestHostFiles(t *testing.T) {
	if got := processor("vendor_id\t: X\nmodel name\t: A: b\nmodel name\t: C\n"); got != "A: b" {
		t.Errorf("processor %q", got)
	}
	if got := loads("0.50 1.00 2.25 1/234 567\n"); !slices.Equal(got, []float64{0.5, 1, 2.25}) {
		t.Errorf("load %v", got)
	}
	if processor("") != "" || loads("x y z") != nil || loads("") != nil {
		t.Error("something was made of nothing")
	}
}
