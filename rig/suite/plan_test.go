package suite

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dsoftbus-rig/rig/record"

	"github.com/google/go-cmp/cmp"
)

// Shards have every scenario once between them, and none has more to do than the
// others and one scenario besides.
func TestShards(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		var items []Item
		expected := Durations{}
		for i := range random.IntN(40) {
			item := Item{Name: fmt.Sprintf("a/%02d", i)}
			items = append(items, item)
			if random.IntN(4) > 0 {
				expected[item.Name] = float64(random.IntN(100)) / 10
			}
		}
		n := 1 + random.IntN(8)
		usual := expected.median(items)
		var all []Item
		var loads []float64
		longest := 0.0
		for i := 1; i <= n; i++ {
			shard := Shard(slices.Clone(items), i, n, expected)
			if !slices.IsSortedFunc(shard, compareNames) {
				t.Fatalf("shard %d is not in order: %v", i, shard)
			}
			load := 0.0
			for _, item := range shard {
				seconds, ok := expected[item.Name]
				if !ok {
					seconds = usual
				}
				load += seconds
				longest = max(longest, seconds)
			}
			loads = append(loads, load)
			all = append(all, shard...)
		}
		slices.SortFunc(all, compareNames)
		if diff := cmp.Diff(items, all, cmp.AllowUnexported(), cmp.Comparer(func(a, b Item) bool { return a.Name == b.Name })); diff != "" {
			t.Fatalf("%d shards have not every scenario once:\n%s", n, diff)
		}
		if spread := slices.Max(loads) - slices.Min(loads); spread > longest+1e-9 {
			t.Fatalf("%d shards take %v, the longest scenario %v", n, loads, longest)
		}
	}
}

// It is time that is shared out, not scenarios.
func TestALongScenarioHasAShardForItself(t *testing.T) {
	items := []Item{{Name: "long"}, {Name: "s1"}, {Name: "s2"}, {Name: "s3"}, {Name: "s4"}}
	expected := Durations{"long": 4, "s1": 1, "s2": 1, "s3": 1, "s4": 1}
	if first, second := Shard(items, 1, 2, expected), Shard(items, 2, 2, expected); len(first) != 1 || len(second) != 4 {
		t.Errorf("%d and %d scenarios", len(first), len(second))
	}
}

// Hosts list scenarios in the same order, but nothing may depend on that.
func TestShardsDependOnNamesAlone(t *testing.T) {
	items := []Item{{Name: "a"}, {Name: "b"}, {Name: "c"}, {Name: "d"}, {Name: "e"}}
	expected := Durations{"b": 5}
	want := Shard(items, 1, 2, expected)
	for range 50 {
		rand.Shuffle(len(items), func(i, j int) { items[i], items[j] = items[j], items[i] })
		if got := Shard(items, 1, 2, expected); !slices.EqualFunc(got, want, func(a, b Item) bool { return a.Name == b.Name }) {
			t.Fatalf("%v, then %v", want, got)
		}
	}
}

func TestDurations(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "there", DurationsFile)
	if d, err := LoadDurations(file); err != nil || len(d) != 0 {
		t.Fatalf("no file: %v, %v", d, err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(`{"a/b": 1.235, "a/c": 3}`), 0o644); err != nil {
		t.Fatal(err)
	}
	d, err := LoadDurations(file)
	if diff := cmp.Diff(Durations{"a/b": 1.235, "a/c": 3}, d); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	for _, foreign := range []string{"", "{", `["a/b"]`, `{"a/b": "long"}`, `{"a/b": -1}`, `{"a/b": 1e300}`, "\x00\x01"} {
		if err := os.WriteFile(file, []byte(foreign), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadDurations(file); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%q was read: %v", foreign, err)
		}
		if err := (Durations{"a/b": 1}).Save(file, func(string) bool { return true }); err == nil || !strings.Contains(err.Error(), "remove the file") {
			t.Errorf("%q was saved over: %v", foreign, err)
		}
	}
	saved := filepath.Join(dir, DurationsFile)
	if err := os.WriteFile(saved, []byte(`{"old/gone": 3, "old/there": 4.5}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := (Durations{"z/z": 1.26, "a/b": 0.04, "elsewhere": 3}).Save(saved, func(name string) bool { return name != "old/gone" && name != "elsewhere" }); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(saved)
	if want := "{\n  \"a/b\": 0,\n  \"old/there\": 4.5,\n  \"z/z\": 1.3\n}\n"; string(data) != want || err != nil {
		t.Errorf("saved %q, %v", data, err)
	}
}

func TestCrowd(t *testing.T) {
	const gib = 1 << 30
	for _, tt := range []struct {
		cores     int
		available uint64
		want      int
	}{{1, 24 * gib, 1}, {2, 24 * gib, 2}, {64, 24 * gib, 34}, {8, 2 * gib, 2}, {4, gib / 4, 1}, {4, 0, 1}} {
		if got := defaultJobs(tt.cores, tt.available); got != tt.want {
			t.Errorf("%d cores, %d bytes: %d, want %d", tt.cores, tt.available, got, tt.want)
		}
	}
	for _, tt := range []struct {
		jobs, cores int
		want        float64
	}{{1, 1, 2}, {1, 2, 1}, {1, 8, 1}, {2, 2, 2}, {4, 2, 4}, {3, 4, 1.5}} {
		if got := crowding(tt.jobs, tt.cores); got != tt.want {
			t.Errorf("%d on %d cores: %v, want %v", tt.jobs, tt.cores, got, tt.want)
		}
	}
	if got, err := memAvailable(strings.NewReader("MemTotal:  100 kB\nMemAvailable:    24000 kB\n")); got != 24000<<10 || err != nil {
		t.Errorf("%d, %v", got, err)
	}
	for _, bad := range []string{"", "MemTotal: 100 kB\n", "MemAvailable: lots kB\n", "MemAvailable: 99999999999999999 kB\n"} {
		if got, err := memAvailable(strings.NewReader(bad)); err == nil {
			t.Errorf("%q: %d", bad, got)
		}
	}
	if DefaultJobs() < 1 {
		t.Error("nobody plays")
	}
}

// Deadlines of workers and the record have the same figure.
func TestCrowdingScalesDeadlines(t *testing.T) {
	jobs := 3 * Cores()
	summary, _ := playConfig(t, t.Context(), Config{Rounds: jobs, Jobs: jobs}, nil, "good/a")
	h := summary.Host
	if h.Jobs != jobs || h.Cores != Cores() || h.Crowding != 6 || h.Slowdown != 6 || !strings.HasSuffix(h.Line, fmt.Sprintf("deadlines x6 · %d at a time", jobs)) || !strings.Contains(h.Detail, fmt.Sprintf("-j %d", jobs)) {
		t.Errorf("%+v", h)
	}
	// There is no crowd where there is not enough to play.
	summary, _ = playConfig(t, t.Context(), Config{Rounds: 1, Jobs: jobs}, nil, "good/a")
	if summary.Host.Jobs != 1 {
		t.Errorf("%+v", summary.Host)
	}
}

func TestMask(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		same bool
	}{
		{"ready", "ready", true},
		{"ready", "steady", false},
		{"3 handles", "4 handles", false},
		{"took 1.5s", "took 23ms", true},
		{"took 1m3s", "took 23ms", true},
		{"[    1.234567] up", "[   12.345678] up", true},
		{"from 10.42.0.10:41234", "from 10.42.0.10:5", true},
		{"from 10.42.0.10:41234", "from 10.42.0.11:41234", false},
		{"port 41234 pid=17", "port 4 pid=1", true},
		{"at 2026-01-02T03:04:05.67Z", "at 2025-01-02T03:04:05Z", true},
		{"id 0f8fad5b-d9cb-469f-a165-70867728950e", "id 7c9e6679-7425-40de-944b-e07fc1f90ae7", true},
		{"key 00112233445566778899aabbccddeeff", "key ffeeddccbbaa99887766554433221100", true},
		{"status 2", "status 3", false},
	} {
		a, b := line{1, "u", tt.a}, line{1, "u", tt.b}
		if got := a.same(b); got != tt.same {
			t.Errorf("%q and %q: %t", mask(tt.a), mask(tt.b), got)
		}
	}
}

func TestDiffers(t *testing.T) {
	play := func(events ...record.Event) *playing {
		p := &playing{}
		for _, e := range events {
			p.note(e)
		}
		p.note(record.Event{Kind: record.KindScenarioEnd, Result: record.Passed})
		return p
	}
	marker := func(step int, node, text string) record.Event {
		return record.Event{Kind: record.KindMarker, Step: step, Node: node, Unit: "u", Text: text}
	}
	let := record.Event{Kind: record.KindStepEnd, Step: 2, Error: "not within 1s", Ignored: true}
	for _, tt := range []struct {
		name         string
		clones, cold *playing
		want         string // part of the message; "" when they are alike
	}{
		{"nothing", play(), play(), ""},
		{"nodes in any order", play(marker(1, "A", "x"), marker(1, "B", "y")), play(marker(1, "B", "y"), marker(1, "A", "x")), ""},
		{"another order", play(marker(1, "A", "x"), marker(1, "A", "y")), play(marker(1, "A", "y"), marker(1, "A", "x")), "marker 1 of node A"},
		{"one less", play(marker(1, "A", "x"), marker(3, "A", "y")), play(marker(1, "A", "x")), "on booted machines: none"},
		{"one more", play(), play(marker(3, "B", "y")), "on clones:          none"},
		{"a step that was let fail", play(marker(2, "A", "x")), play(let), ""},
		{"the other way round", play(let), play(marker(2, "A", "x")), ""},
		{"cut off", &playing{result: record.Interrupted}, play(), ""},
		{"out of time", play(), &playing{result: record.Failed, failure: &record.Failure{Reason: record.RunTimeout}}, ""},
		{"the same failure", &playing{result: record.Failed, failure: &record.Failure{Reason: record.ExecStatus}},
			&playing{result: record.Failed, failure: &record.Failure{Reason: record.ExecStatus}}, ""},
		{"another failure", &playing{result: record.Failed, failure: &record.Failure{Reason: record.ExecStatus}},
			&playing{result: record.Failed, failure: &record.Failure{Reason: record.MarkerTimeout}}, "failed (exec-status) on clones, failed (marker-timeout) on booted"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := differs("a.txtar", tt.clones, tt.cold)
			if f == nil != (tt.want == "") || f != nil && !strings.Contains(f.Message, tt.want) {
				t.Errorf("%+v, want %q", f, tt.want)
			}
		})
	}
}
