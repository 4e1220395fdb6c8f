package soak

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"dsoftbus-rig/rig/record"
	"dsoftbus-rig/rig/scenario"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the scenario that is kept")

// The scenario that is kept is this one.
const (
	keptFile   = "../../scenarios/soak/seed-1.txtar"
	keptRounds = 10
)

func TestKeptScenario(t *testing.T) {
	want := Generate(1, keptRounds)
	if *update {
		if err := os.WriteFile(keptFile, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(keptFile)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("%s is not what is generated; run go test ./rig/soak -update (-generated +kept):\n%s", keptFile, d)
	}
}

// valid writes a scenario and has it checked as any other is.
func valid(t *testing.T, text []byte) *scenario.Script {
	t.Helper()
	file := filepath.Join(t.TempDir(), "soak.txtar")
	if err := os.WriteFile(file, text, 0o644); err != nil {
		t.Fatal(err)
	}
	script, err := scenario.Load(file, nil)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return script
}

func TestEverySeedIsValid(t *testing.T) {
	for seed := range uint64(300) {
		text := Generate(seed, 40)
		valid(t, text)
		if !bytes.Equal(text, Generate(seed, 40)) {
			t.Fatalf("seed %d gives another text the second time", seed)
		}
	}
	if bytes.Equal(Generate(1, 40), Generate(2, 40)) {
		t.Error("seeds 1 and 2 give the same")
	}
	for _, seed := range []uint64{3, 1<<64 - 1} {
		valid(t, Generate(seed, MaxRounds))
	}
}

// A longer scenario begins with the shorter one of its seed, so that a failure in an early round can be had sooner.
func TestMoreRoundsOfTheSameSeed(t *testing.T) {
	body := func(rounds int) string {
		_, text, _ := strings.Cut(string(Generate(5, rounds)), "\nup\n")
		text, _, _ = strings.Cut(text, "\n# Nothing has grown")
		return text
	}
	if short, long := body(7), body(19); !strings.HasPrefix(long, short) {
		t.Error("19 rounds do not begin with the 7 rounds of the same seed")
	}
}

// Over a few seeds every fault comes, and what begins ends before its round does.
func TestFaults(t *testing.T) {
	var all bytes.Buffer
	for seed := range uint64(20) {
		text := Generate(seed, 60)
		all.Write(text)
		rounds := strings.Split(string(text), "\n# Round ")[1:]
		for _, round := range rounds {
			var open string
			for line := range strings.Lines(round) {
				switch word, _, _ := strings.Cut(strings.TrimSpace(line), " "); {
				case word == "block" || word == "partition" || word == "pause" || word == "link" && !strings.HasSuffix(line, " up\n"):
					if open != "" {
						t.Errorf("a second fault in:\n%s", round)
					}
					open = word
				case word == "heal" || word == "unblock" || word == "resume" || word == "link":
					open = ""
				case word == "*" && open != "":
					t.Errorf("a read that must succeed while %s is in force:\n%s", open, round)
				}
			}
			if open != "" {
				t.Errorf("%s is not ended in:\n%s", open, round)
			}
		}
	}
	for _, want := range []string{
		`block -maybe A B\n`, `block -maybe B A\n`, `block -maybe A B tcp 34567\n`, `block -maybe B A tcp 34567\n`, `partition -maybe\n`,
		`pause A\n`, `pause B\n`, `link -maybe A down\nsleep .*\nlink A up\n`, `link -maybe B down\n`, `clock A \+`, `clock A -`, `clock B \+`, `clock B -`,
		`link -maybe A .*=`, `link -maybe B .*=`, `link -maybe \* .*=`, ` delay=`, ` jitter=`, ` reorder=`, ` loss=[1-5]%`, ` loss=0\.`, ` dup=`, ` corrupt=[12]%`,
		` corrupt=0\.`, ` rate=`, `Round \d+: nothing happens\n`, `sleep [34]\d{3}ms`, `B pkgfs -peer node-a .*g1`,
		`# Nothing has grown after 20 rounds\.\nexec \* vitals -against`, `after 60 rounds`,
	} {
		if !regexp.MustCompile(want).Match(all.Bytes()) {
			t.Errorf("never drawn: %s", want)
		}
	}
	for _, ten := range []string{"nothing happens", "block", "partition", "pause", "link . down", "clock", "link"} {
		if !regexp.MustCompile(`# Round ([1-9]|10): ` + ten).Match(Generate(77, 10)) {
			t.Errorf("ten rounds have no %s", ten)
		}
	}
	for _, never := range []string{`loss=([6-9]|\d\d)`, `corrupt=([3-9]|\d\d)`} {
		if m := regexp.MustCompile(never).Find(all.Bytes()); m != nil {
			t.Errorf("drawn: %s", m)
		}
	}
}

func TestTally(t *testing.T) {
	var tally Tally
	step := 0
	do := func(text, stdout, failure string) {
		step++
		tally.Add(record.Event{Kind: record.KindStepStart, Step: step, Text: text})
		for _, part := range strings.SplitAfter(stdout, " ") { // in pieces, as output may come
			tally.Add(record.Event{Kind: record.KindOutput, Step: step, Stream: "stdout", Text: part})
		}
		tally.Add(record.Event{Kind: record.KindOutput, Step: step, Stream: "stderr", Text: "noise\n"})
		tally.Add(record.Event{Kind: record.KindStepEnd, Step: step, Error: failure})
	}
	tally.Add(record.Event{Kind: record.KindScenarioStart})
	do("exec B dd if=/dev/urandom of=/packages/soak@1.0.0/f1 bs=1000 count=3", "", "")
	do("* exec -within 20s A pkgfs -peer node-b bench pkg:/soak/f1 -count 3", "a b\nb b\na b\nb b\nc b\n", "") // the second attempt had three
	do(`stdout -count 3 sha256=$F1$`, "", "")
	tally.Add(record.Event{Kind: record.KindSection, Text: "Round 1: pause B"})
	tally.Add(record.Event{Kind: record.KindFault, State: record.FaultAsked})
	tally.Add(record.Event{Kind: record.KindFault, State: record.FaultInjected})
	tally.Add(record.Event{Kind: record.KindFault, State: record.FaultHealed})
	do("? exec -within 8s A pkgfs -peer node-b -wait 2s sum pkg:/soak/f1", "", "exit status 1")
	do(`stdout -whole \A(\z|$F1\s)`, "", "")
	do("? exec -within 8s A pkgfs -peer node-b -wait 2s sum pkg:/soak/f1 &read&", "a f1\n", "")
	do("wait read", "", "")
	do(`stdout -whole \A(\z|$F1\s)`, "", "")
	tally.Add(record.Event{Kind: record.KindSection, Text: "Nothing has grown after 1 rounds."})
	do("* exec -within 20s A pkgfs -peer node-b sum pkg:/soak/f1", "a f1\n", "")
	do(`stdout ^$F1\s`, "", "stdout does not match")
	if got, want := tally.String(), "1 rounds, 1 faults injected, 4 reads compared, 12000 bytes compared"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	sum := tally
	sum.Sum(tally)
	if got, want := sum.String(), "2 rounds, 2 faults injected, 8 reads compared, 24000 bytes compared"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// Each line that reads is one that the tally knows.
func TestTallyKnowsTheReads(t *testing.T) {
	for line := range strings.Lines(string(Generate(9, 200))) {
		line = strings.TrimSuffix(line, "\n")
		if strings.Contains(line, "pkgfs") && !readStep.MatchString(line) {
			t.Errorf("no read: %s", line)
		}
		if strings.Contains(line, " dd ") && !madeStep.MatchString(line) {
			t.Errorf("makes nothing: %s", line)
		}
	}
}

// A scenario that did nothing is nothing that a soak may end green with.
func TestProves(t *testing.T) {
	for _, tt := range []struct {
		tally Tally
		says  string // empty: it is enough
	}{
		{Tally{Rounds: 3, Reads: 5, Bytes: 100}, ""},
		{Tally{}, "only 0 of its 3 rounds began"},
		{Tally{Rounds: 2, Reads: 5, Bytes: 100}, "only 2 of its 3 rounds began"},
		{Tally{Rounds: 3}, "no content was compared"},
		{Tally{Rounds: 3, Reads: 5}, "no content was compared"},
	} {
		err := tt.tally.Proves(3)
		if tt.says == "" && err != nil || tt.says != "" && (err == nil || !strings.Contains(err.Error(), tt.says)) {
			t.Errorf("%+v: %v", tt.tally, err)
		}
	}
}
