package scenario

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"dsoftbus-rig/rig/console"
	"dsoftbus-rig/rig/record"
)

func TestMarkerLadder(t *testing.T) {
	for _, tt := range []struct {
		name, script string
		line         int // of the failure; 0: passes
		next         string
	}{
		{"in order", "marker A one\nmarker A two\nmarker A three", 0, ""},
		{"leaving lines out", "marker A three", 0, ""},
		{"out of order", "marker A two\nmarker A 'one 1'", 3, "Such a line came before the cursor ([test] one 1)"},
		{"a line counts once", "marker A one\nmarker A one\nmarker A one", 4, "came before the cursor"},
		{"from the start", "marker A three\nmarker -from start A one", 0, ""},
		{"from the start keeps the cursor", "marker A two\nmarker -from start A one\nmarker A three\nmarker A two", 5, "came before the cursor"},
		{"from the start never moves it back", "marker A three\nmarker -from start A 'one 1'\nmarker A two", 4, "came before the cursor"},
		{"from the start moves it forwards", "marker -from start A two\nmarker A 'one 1'", 3, "came before the cursor"},
		{"each node has its own", "marker A three\nmarker B one", 0, ""},
		{"all nodes", "marker * 'one 1'\nmarker A two\nmarker B two", 0, ""},
		{"not on all nodes", "marker * three", 2, ""},
		{"count", "marker -count 2 A one\nmarker A three", 0, ""},
		{"count moves behind the last", "marker -count 2 A one\nmarker A two", 3, "came before the cursor"},
		{"count is not reached", "marker -count 3 A one", 2, ""},
		{"text that is no regexp", "marker A 'load (half)'", 2, `write 'load \(half\)'`},
		{"a variable is literal", "env P='load (half)'\nmarker A $P", 0, ""},
		{"may be missing", "? marker A never", 0, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, nil)
				for _, text := range []string{"one 1", "two", "one 2", "three", "load (half)"} {
					b.world.print("A", text)
				}
				b.world.print("B", "one 1")
				b.world.print("B", "two")
				script := "up\n" + tt.script + "\n"
				if tt.line == 0 {
					b.passes(script)
					return
				}
				f := b.fails(script, record.MarkerTimeout, tt.line, "not within 10s")
				if !strings.Contains(f.Next, tt.next) {
					t.Errorf("next step %q, want %q", f.Next, tt.next)
				}
				if f.Awaited == "" || (f.Node != "A" && f.Node != "B") {
					t.Errorf("awaited %q of node %q", f.Awaited, f.Node)
				}
			})
		})
	}
}

func TestMarkerWaitsByEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil)
		go func() {
			time.Sleep(3 * time.Second)
			b.world.print("A", "noise")
			b.world.nodes["A"].log.Append(console.Line{Time: time.Now(), Unit: "dsoftbusd", Text: "dsoftbusd: ready", Guest: 1500 * time.Millisecond})
		}()
		start := time.Now()
		b.passes("up\nmarker A 'ready$'\n")
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("took %s", took)
		}
		got := b.seen(record.KindMarker)
		if len(got) != 1 || got[0].Text != "dsoftbusd: ready" || got[0].Unit != "dsoftbusd" || got[0].Node != "A" || got[0].Guest != 1.5 || got[0].Step != 2 {
			t.Errorf("events %+v", got)
		}
	})
}

func TestMarkerMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil)
		f := b.fails("up\nmarker -within 2s A never\n", record.MarkerTimeout, 2,
			`a line of node A that matches "never": not within 2s; no line came behind the cursor`)
		if f.Awaited != `a line of node A that matches "never"` || f.Node != "A" || f.Step != 2 || f.Text != "marker -within 2s A never" {
			t.Errorf("failure %+v", f)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil)
		b.world.print("A", "one")
		b.world.print("A", "two")
		b.world.print("B", "other")
		f := b.fails("up\nmarker -count 2 A one\n", record.MarkerTimeout, 2, "only 1 came; of 2 lines behind the cursor the last is: [test] two")
		if strings.Join(f.Tail["A"], "|") != "[test] one|[test] two" || strings.Join(f.Tail["B"], "|") != "[test] other" {
			t.Errorf("tails %q", f.Tail)
		}
	})
}

func TestNoMarker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(c *Config) { c.Slowdown = 2 })
		b.world.print("A", "seen")
		start := time.Now()
		b.passes("up\nmarker A seen\n! marker -within 3s A seen\n")
		if took := time.Since(start); took != 3250*time.Millisecond {
			t.Errorf("took %s", took)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil)
		go func() {
			time.Sleep(time.Second)
			b.world.print("A", "bad thing")
		}()
		start := time.Now()
		f := b.fails("up\n! marker -within 3s A 'bad'\n", record.MarkerUnexpected, 2, "node A printed a line that must not come: [test] bad thing")
		if took := time.Since(start); took != time.Second || f.Node != "A" {
			t.Errorf("took %s, node %s", took, f.Node)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil)
		b.world.print("A", "seen")
		b.fails("up\nmarker A seen\n! marker -from start A seen\n", record.MarkerUnexpected, 3, "must not come")
	})
}

func TestMarkerOnADeadNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil)
		go func() {
			time.Sleep(time.Second)
			b.world.nodes["A"].log.End(&NodeError{Node: "A", Reason: record.KernelPanic, Err: errors.New("the kernel panicked")})
		}()
		start := time.Now()
		b.fails("up\nmarker A never\n", record.KernelPanic, 2, "can no longer come: node A: the kernel panicked")
		if took := time.Since(start); took != time.Second {
			t.Errorf("took %s", took)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil)
		b.world.print("A", "last words")
		b.world.nodes["A"].log.End(errors.New("gone"))
		b.fails("up\nmarker A 'last words'\n! marker A never\n", record.NodeExited, 3, "gone")
	})
}

func TestBetween(t *testing.T) {
	const ms = time.Millisecond
	lines := []console.Line{
		{Boot: 1, Guest: 4000 * ms, Text: "announce 1"},
		{Boot: 1, Guest: 5000 * ms, Text: "session ok"},
		{Boot: 1, Guest: 5010 * ms, Text: "announce 2"},
		{Text: "of the kernel"},
		{Boot: 1, Guest: 8000 * ms, Text: "session lost"},
		{Boot: 1, Guest: 8000*ms - 1, Text: "dial"}, // read before the line in front, written behind it
		{Boot: 2, Guest: 9000 * ms, Text: "session ok"},
		{Boot: 3, Guest: 100 * ms, Text: "session lost"},
	}
	for _, tt := range []struct {
		name, script string
		reason       record.Reason // empty: passes
		text         string        // of the failure, or of a note
	}{
		{"inside", "between A 'session ok' 'session lost' 2s..4s", "", `node A, from "5.000 session ok" to "8.000 session lost": 3s passed by the node's clock`},
		{"at the lower end", "between A 'session ok' 'session lost' 3s..4s", "", ""},
		{"at the upper end", "between A 'session ok' 'session lost' 2s..3s", "", ""},
		{"too late", "between A 'session ok' 'session lost' 2s..2.5s", record.MarkerInterval, `from "5.000 session ok" to "8.000 session lost": 3s passed by the node's clock, not 2s to 2.5s`},
		{"too early", "between A 'session ok' 'session lost' 4s..5s", record.MarkerInterval, "3s passed by the node's clock, not 4s to 5s"},
		{"the same pattern twice", "between A announce announce 1s..1.1s", "", "1.01s passed"},
		{"read and written in another order", "between A 'session lost' dial 0s..1ms", "", "0s passed"},
		{"moves the cursor behind the second", "between A announce announce 1s..1.1s\nmarker -within 1s A 'session ok'\nmarker -within 1s A 'session ok'", record.MarkerTimeout, "not within"},
		{"begins at the cursor", "marker A 'announce 1'\nbetween A announce lost 2s..3s", "", "2.99s passed"},
		{"from the start", "marker A lost\nbetween -from start A 'announce 1' 'announce 2' 1s..2s", "", "1.01s passed"},
		{"from the start keeps the cursor", "marker A lost\nbetween -from start A 'announce 1' 'announce 2' 1s..2s\nmarker A 'session ok'\nmarker A lost", "", ""},
		{"the first does not come", "between -within 1s A never lost 1s..2s", record.MarkerTimeout, `a line of node A that matches "never": not within 3s`},
		{"the second does not come", "between -within 1s A 'session lost' announce 1s..2s", record.MarkerTimeout, `a line of node A that matches "announce", behind 8.000 session lost: not within 3s`},
		{"waits by default as long as the range", "between A lost announce 1s..2m", record.MarkerTimeout, "not within 2m20s (2m10s, at slowdown 3)"},
		{"a line without a time", "between A announce kernel 0s..9s", record.StepFailed, "a line has no time of the node's clock"},
		{"a boot in between", "marker A dial\nbetween A 'session ok' 'session lost' 0s..1h", record.StepFailed, "the node booted between the two"},
		{"a boot in between, and a later time", "between A dial 'session ok' 0s..1h", record.StepFailed, "the node booted between the two"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, func(c *Config) { c.Slowdown = 3 })
				for _, l := range lines {
					l.Time = time.Now()
					b.world.nodes["A"].log.Append(l)
				}
				script := "up\n" + tt.script + "\n"
				if tt.reason != "" {
					b.fails(script, tt.reason, 2+strings.Count(tt.script, "\n"), tt.text)
					return
				}
				b.passes(script)
				if notes := b.output("note"); !strings.Contains(notes, tt.text) {
					t.Errorf("notes %q, want %q", notes, tt.text)
				}
			})
		})
	}
}

func TestBetweenWaitsForBoth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil)
		log := b.world.nodes["A"].log
		log.Append(console.Line{Boot: 1, Guest: time.Second, Text: "lost"})
		go func() {
			time.Sleep(2 * time.Second)
			log.Append(console.Line{Boot: 1, Guest: 2 * time.Second, Text: "ok"})
			time.Sleep(9 * time.Second) // of a slow host
			log.Append(console.Line{Boot: 1, Guest: 5 * time.Second, Text: "lost"})
		}()
		b.passes("up\nbetween A ok lost 2s..4s\n")
		var texts []string
		for _, ev := range b.seen(record.KindMarker) {
			texts = append(texts, ev.Text)
		}
		if strings.Join(texts, "|") != "ok|lost" {
			t.Errorf("events %q", texts)
		}
	})
}

// What was not looked at is not known to be without the line.
func TestNoMarkerMeetsALimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil)
		b.world.print("A", "one")
		b.world.nodes["A"].log.Lose("journal entries 2 to 4 never arrived")
		f := b.fails("up\n! marker -within 2s A bad\n", record.LogIncomplete, 2, `it cannot be said that no line of node A matches "bad": journal entries 2 to 4 never arrived`)
		if f.Node != "A" {
			t.Errorf("node %q", f.Node)
		}
		b.fails("up\nmarker -within 2s A bad\n", record.MarkerTimeout, 2, "journal entries 2 to 4 never arrived")
		b.world.print("A", "two")
		b.passes("up\nmarker A two\n! marker -within 2s A bad\n")
		b.fails("up\n! marker -from start -within 2s A bad\n", record.LogIncomplete, 2, "never arrived")
	})
}

// A marker is about what comes of what the script has done last: a line from before
// says nothing of that.
func TestMarkerBeforeAnAct(t *testing.T) {
	for _, tt := range []struct {
		name, script string
		line         int    // of the failure; 0: passes
		text, next   string // of the failure
	}{
		{"before a kill", "sleep 1s\nkill A dsoftbusd\nmarker A ready", 4, "not within 10s", "came before line 3 (`kill A dsoftbusd`) began (0.000 [test] ready), and"},
		{"before another start: each begins something of its own", "sleep 1s\nstart A dsoftbusd\nmarker A ready", 0, "", ""},
		{"before what is done to another node", "sleep 1s\nlink B down\nmarker A ready", 4, "not within 10s", "came before line 3 (`link B down`) began"},
		{"before what fails as it should", "sleep 1s\n? kill B packagefsd\nmarker A ready", 4, "not within 10s", "began"},
		{"counted", "marker A ready\nsleep 1s\ncrash B\nmarker -count 2 A late", 5, "only 1 came", "began"},
		{"on all nodes", "sleep 1s\nheal\nmarker * ready", 4, "not within 10s", "began"},
		{"after it", "sleep 1s\nreset A\nmarker A late", 0, "", ""},
		{"from the start", "sleep 1s\nkill A dsoftbusd\nmarker -from start A ready", 0, "", ""},
		{"what does nothing to nodes", "sleep 1s\nexec A true\nexec B true &\nwait\nmarker A ready", 0, "", ""},
		{"what is not run", "sleep 1s\n[kvm] kill A dsoftbusd\nmarker A ready", 0, "", ""},
		{"what must not come must not have come", "sleep 1s\nkill B packagefsd\n! marker -within 1s A ready", 4, "must not come", ""},
		{"between", "sleep 1s\nkill B packagefsd\nbetween A ready late 0s..1m", 0, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, nil)
				log := b.world.nodes["A"].log
				b.world.print("B", "ready")
				for i, text := range []string{"ready", "late"} {
					log.Append(console.Line{Time: time.Now(), Boot: 1, Guest: time.Duration(i + 1), Unit: "test", Text: text})
				}
				var later sync.WaitGroup
				defer later.Wait()
				later.Go(func() {
					time.Sleep(2 * time.Second)
					b.world.print("A", "late")
				})
				script := "up\n" + tt.script + "\n"
				if tt.line == 0 {
					b.passes(script)
					return
				}
				out := b.run(t.Context(), script)
				if out.Failure == nil || out.Failure.Line != tt.line || !strings.Contains(out.Failure.Message, tt.text) || !strings.Contains(out.Failure.Next, tt.next) {
					t.Errorf("%+v, %+v", out, out.Failure)
				}
			})
		})
	}
}

// Messages show of a line what fits in them, however long it is.
func TestMessagesShowTheBeginningOfALongLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil)
		b.world.print("A", "begin"+strings.Repeat("x", 1<<20))
		f := b.fails("up\n! marker -within 2s A ^begin\n", record.MarkerUnexpected, 2, "bytes more")
		if len(f.Message) > 2*record.MaxTailLine || len(f.Tail["A"][0]) > 2*record.MaxTailLine {
			t.Errorf("%d bytes of message, %d of tail", len(f.Message), len(f.Tail["A"][0]))
		}
	})
}
