package webreport

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"dsoftbus-rig/rig/record"
)

// some ticks, and earlier runs, as others will bring them
func dressed(scenario string) Options {
	var ticks []Tick
	for i := range 400 {
		t := Tick{T: 0.2 + float64(i)*0.016 + 0.2*math.Sin(float64(i)), From: "A", To: "B", Kind: "tcp", Text: fmt.Sprintf("34567 > 40112, %d bytes", i)}
		switch {
		case i%3 == 1:
			t.From, t.To = "B", "A"
		case i%7 == 0:
			t.To, t.Kind, t.Text = "", "announce", "node-a"
		}
		ticks = append(ticks, t)
	}
	return Options{
		Ticks:   map[string][]Tick{scenario: ticks},
		History: map[string][]float64{"cable": {4.1, 4.3, 4.0, 5.2, 4.4}, "loss": {1.2, 1.4, 1.3, 1.1, 1.5, 1.2}, "roundtrip/basic": {0.8, 0.7, 0.9, 0.7}},
		Notes: map[string][]Note{
			"cable":           {{Text: "fails for the first time in 6 playings <b>"}},
			"roundtrip/basic": {{Text: "slower than usual: took 1.9s, usually median 0.75s", Slower: true}},
		},
	}
}

// Each recorded run opens in both themes, at a desk and on a phone, and says what its record says.
func TestRecordedRuns(t *testing.T) {
	for _, c := range []struct {
		run, verdict string
		scenarios    int
		has          []string // text of the page, with all scenarios open
	}{
		{"mixed", "failed", 4, []string{"cable.txtar:8", "exec-status: a program ended", "fails for the first time in 6 playings <b>", "slower than usual: took 1.9s", "from the run's folder: cable/cable.txtar", "block A B udp 9 has touched nothing", "not run", "failed, as"}},
		{"repaired", "repaired", 1, []string{"A person stepped in", "link B up", "stood still for a person (failed)", "it went on by: retry", "It had failed before", "2×, failed first"}},
		{"interrupted", "interrupted", 1, []string{"interrupted: the run was stopped before the scenario ended", "sleep 60s", "only the lines that ran, from the record"}},
		{"cold", "passed", 1, []string{"Welcome to u-root", "≈", "cgroup: Disabled controller"}},
	} {
		file := write(t, recorded(c.run), dressed("cable"))
		for _, size := range []struct {
			name string
			set  action
		}{{"desk", desk}, {"phone", phone}} {
			for _, theme := range []string{"light", "dark"} {
				name := c.run + "-" + size.name + "-" + theme
				t.Run(name, func(t *testing.T) {
					b := open(t, file, size.set, scheme(theme))
					if got := eval[string](b, `document.querySelector("h1").textContent`); got != c.verdict+" "+c.run {
						t.Errorf("the page is headed %q", got)
					}
					if c.scenarios > 1 {
						b.shot(name + "-list")
					}
					if n := eval[int](b, `document.querySelectorAll("details.scenario").length`); n != c.scenarios {
						t.Errorf("%d scenarios, want %d", n, c.scenarios)
					}
					b.run(`for (const d of document.querySelectorAll("details.scenario")) d.open = true`)
					b.wait(`[...document.querySelectorAll(".more")].every(m => m.querySelector(".log") && m.querySelector(".tl svg rect"))`)
					text := eval[string](b, `document.body.innerText + [...document.querySelectorAll("[title]")].map(e => e.title).join("\n")`)
					for _, want := range c.has {
						if !strings.Contains(text, want) {
							t.Errorf("the page has no %q", want)
						}
					}
					if wide := eval[int](b, `document.documentElement.scrollWidth - innerWidth`); wide > 0 {
						t.Errorf("the page is %d pixels wider than the window", wide)
					}
					dark := eval[bool](b, `getComputedStyle(document.body).backgroundColor === "rgb(20, 23, 26)"`)
					if dark != (theme == "dark") {
						t.Errorf("dark is %v in theme %s", dark, theme)
					}
					b.shot(name)
				})
			}
		}
	}
}

func TestClickThrough(t *testing.T) {
	b := open(t, write(t, recorded("mixed"), dressed("cable")), desk, scheme("light"))
	shown := `[...document.querySelectorAll("details.scenario")].filter(d => !d.hidden).map(d => d.dataset.name).join(" ")`

	if got := eval[string](b, `[...document.querySelectorAll(".took.slower")].map(e => e.closest("details").dataset.name).join(" ")`); got != "roundtrip/basic" {
		t.Errorf("slower than usual are %q", got)
	}
	// Failures come first, then what is to be looked at, then the rest.
	if got := eval[string](b, shown); got != "cable untouched loss roundtrip/basic" {
		t.Errorf("listed are %s", got)
	}
	b.do(click(`#filter button[data-verdict="passed"]`))
	if got := eval[string](b, shown); got != "loss roundtrip/basic" {
		t.Errorf("of those that passed, listed are %s", got)
	}
	b.do(input("#text", "roundtrip"))
	if got := eval[string](b, shown+` + ", " + document.getElementById("shown").textContent`); got != "roundtrip/basic, 1 of 4 scenarios" {
		t.Errorf("with text, listed are %s", got)
	}
	b.do(click(`#filter button[data-verdict="passed"]`))
	b.run(`document.getElementById("text").value = ""; document.getElementById("text").dispatchEvent(new Event("input"))`)

	// Nothing of a scenario is made until it is opened.
	if n := eval[int](b, `document.querySelectorAll(".more > *").length`); n != 0 {
		t.Errorf("%d parts of closed scenarios were made", n)
	}
	b.do(click(`#s0 summary`))
	b.wait(`document.querySelector("#s0 .log .ln")`)
	if got := eval[string](b, `document.querySelector("#s0 .src.failed").innerText`); !strings.Contains(got, "exec A pkgfs -peer node-b -wait 2s") {
		t.Errorf("the line that failed is %q", got)
	}
	// The failing line's events are shown already; a passed line's come with a click, and go with another.
	lists := `document.querySelectorAll("#s0 .events").length`
	if n := eval[int](b, lists); n != 1 {
		t.Errorf("%d lines have their events open", n)
	}
	b.do(click(`#s0 button.src.passed`))
	if n := eval[int](b, lists); n != 2 {
		t.Errorf("%d lines have their events open after a click", n)
	}
	b.do(click(`#s0 button.src.passed`))
	if n := eval[int](b, lists); n != 1 {
		t.Errorf("%d lines have their events open after another", n)
	}
	// What is in the time line: a fault, the packets, the marker. A click on that leads to the node's lines.
	for _, part := range []string{".fault", ".tick.k0", ".tick.k1", ".st-ready", ".step-failed"} {
		if eval[int](b, fmt.Sprintf(`document.querySelectorAll("#s0 .tl svg %s").length`, part)) == 0 {
			t.Errorf("the time line has no %s", part)
		}
	}
	blocks := eval[int](b, `document.querySelectorAll("#s0 .tl svg [class^=step-]").length`)
	b.do(click(`#s0 .bar2 button[title="zoom in"]`), click(`#s0 .bar2 button[title="zoom in"]`))
	if n := eval[int](b, `document.querySelectorAll("#s0 .tl svg [class^=step-]").length`); n >= blocks {
		t.Errorf("%d steps are shown when zoomed in, %d before", n, blocks)
	}
	b.run(`[...document.querySelectorAll("#s0 .bar2 button")].find(b => b.textContent === "all").click()`)
	b.do(chromedp.ScrollIntoView(chromedp.CSS("#s0 .tl")), click(`#s0 .tl circle.mark`))
	b.wait(`document.querySelector("#s0 .hitline")`)
	if got := eval[string](b, `document.querySelector("#s0 .hitline").textContent`); !strings.Contains(got, "session lost node-b") {
		t.Errorf("the marker leads to %q", got)
	}
	if got := eval[string](b, `[...document.querySelectorAll("#s0 .log .ln > :nth-child(2)")].map(e => e.textContent).join("")`); strings.Trim(got, "A") != "" {
		t.Errorf("the lines are of %s, want those of A alone", got)
	}
	// The unit and the text filter them.
	b.run(`document.querySelector("#s0 select").value = "dsoftbusd"; document.querySelector("#s0 select").dispatchEvent(new Event("change"))`)
	b.do(input(`#s0 .bar2 input`, "session"))
	if got := eval[string](b, `document.querySelector("#s0 .bar2:has(input) .dim").textContent`); got != "3 lines" {
		t.Errorf("filtered are %s, want 3 lines", got)
	}
	// The theme goes round: system, light, dark.
	b.do(click("#theme"), click("#theme"))
	if got := eval[string](b, `document.documentElement.dataset.theme + getComputedStyle(document.body).backgroundColor`); got != "darkrgb(20, 23, 26)" {
		t.Errorf("the theme is %s", got)
	}
}

// A finger does not hover: it gets what a point is, and a button that leads on.
func TestTap(t *testing.T) {
	b := open(t, write(t, recorded("mixed"), Options{}), phone, scheme("light"))
	b.do(chromedp.Tap(chromedp.CSS("#s0 summary")))
	b.wait(`document.querySelector("#s0 .tl circle.mark")`)
	b.do(chromedp.Tap(chromedp.CSS("#s0 .tl circle.mark")))
	b.wait(`document.querySelector("#s0 .about button")`)
	if got := eval[string](b, `document.querySelector("#s0 .about").textContent`); !strings.Contains(got, "session lost node-b") {
		t.Errorf("the marker is %q", got)
	}
	if eval[bool](b, `document.querySelector("#s0 .hitline") != null`) {
		t.Error("a tap has already led away")
	}
	b.shotOf("tap-phone", "#s0 .tl")
	b.do(chromedp.Tap(chromedp.CSS("#s0 .about button")))
	b.wait(`document.querySelector("#s0 .hitline")`)
	b.do(chromedp.Tap(chromedp.CSS("#s0 .bar2 button:last-child")))
	b.wait(`document.querySelector("#s0 .about").textContent.includes("exec A pkgfs")`)
}

// The policy keeps from running whatever might get into the page all the same.
func TestPolicy(t *testing.T) {
	b := open(t, write(t, recorded("cold"), Options{}), desk)
	b.run(`
		window.kept = [];
		addEventListener("securitypolicyviolation", (e) => kept.push(e.effectiveDirective));
		const script = document.createElement("script");
		script.textContent = "window.owned = true";
		const img = new Image();
		img.src = "file:///etc/hostname";
		const style = document.createElement("style");
		style.textContent = "body { display: none }";
		document.body.append(script, img, style);
		fetch("http://127.0.0.1:9/").catch(() => 0)`)
	b.wait(`kept.length >= 4`)
	if got := eval[string](b, `[...kept].sort().join(" ")`); got != "connect-src img-src script-src-elem style-src-elem" {
		t.Errorf("kept from: %s", got)
	}
	if eval[bool](b, `window.owned === true || getComputedStyle(document.body).display === "none"`) {
		t.Error("a script or a style that is none of the page's had its way")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bad = nil // the browser has said all that, as it should
}

// Where no script may run, verdicts and failures are there all the same.
func TestWithoutScript(t *testing.T) {
	b := open(t, write(t, recorded("mixed"), Options{}), desk, call(emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true}))
	b.do(click("#s0 summary"))
	text, err := chromedp.Run(b.ctx, chromedp.Text(chromedp.CSS("body")))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"cable", "exec-status", "Scripts do not run here", "session lost node-b"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page has no %q", want)
		}
	}
}

// What a machine may print to get out of the text it is in.
var evil = []string{
	`<script>alert(1)</script>`,
	`</script><script>alert(2)</script>`,
	`--></script></pre><img src=x onerror=alert(3)>`,
	`<!--<script>`,
	"\u2028alert(4)\u2029",
	"\x1b[2J\x1b]0;owned\x07 red \x1b[31m",
	"\u202eevil\u202c \x00 \xff\xfe",
	`{{.Policy}} ${alert(5)} <!--data--> &lt;b&gt; ]]>`,
	`" onmouseover="alert(6)" x='`,
	`<meta http-equiv=refresh content="0;url=http://example.com/"><link rel=stylesheet href=http://example.com/>`,
	`javascript:alert(7)`,
	strings.Repeat("long ", 200_000),
}

func TestHostileText(t *testing.T) {
	dir := mutable(t, "mixed")
	all := strings.Join(evil, "\n")
	path := filepath.Join(dir, record.SummaryFile)
	var s record.Summary
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, &s)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.Name, s.Host.Line, s.Warnings = evil[1], evil[2], evil
	c := &s.Scenarios[0]
	c.File, c.Message, c.Warnings = evil[1], all, evil
	f := c.Failure
	f.Text, f.Node, f.Message, f.Awaited, f.Next, f.Reason = evil[0], evil[1], all, all, evil[2], record.Reason(evil[3])
	f.Tail = map[string][]string{"A": evil, evil[1]: evil}
	c.Nodes = append(c.Nodes, record.NodeFiles{Name: evil[1], Journal: "../../etc/passwd", Console: "/etc/passwd", QEMULog: "javascript:alert(8)"})
	c.Dir, c.Events = `javascript:alert(9)//"><script>`, "//example.com/x"
	if data, err = json.Marshal(s); err == nil {
		err = os.WriteFile(path, data, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}

	appendTo := func(file string, write func(*os.File) error) {
		t.Helper()
		f, err := os.OpenFile(filepath.Join(dir, filepath.FromSlash(file)), os.O_APPEND|os.O_WRONLY, 0o644)
		if err == nil {
			err = write(f)
			f.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	at := s.Started.Add(6 * time.Second)
	appendTo("cable/A/journal.jsonl", func(f *os.File) error {
		for i, line := range evil {
			entry := map[string]any{"time": at, "seq": 100 + i, "mono_ns": 6e9, "unit": evil[i%3], "stream": "stdout", "text": line}
			if strings.Contains(line, "\xff") {
				delete(entry, "text")
				entry["raw"] = []byte(line)
			}
			if err := json.NewEncoder(f).Encode(entry); err != nil {
				return err
			}
		}
		_, err := fmt.Fprint(f, `{"time":"20`+evil[1])
		return err
	})
	appendTo("cable/A/console.log", func(f *os.File) error { _, err := f.WriteString(all); return err })
	appendTo(record.EventsFile, func(f *os.File) error {
		for i, line := range evil {
			for _, e := range []record.Event{
				{Kind: record.KindStepStart, Step: 50 + i, Line: 8, Text: line}, {Kind: record.KindOutput, Step: 50 + i, Stream: line, Text: line},
				{Kind: record.KindMarker, Step: 50 + i, Node: "A", Unit: line, Text: line}, {Kind: record.KindFault, Name: line, State: "injected", Node: line, Text: line},
				{Kind: record.KindNode, Node: "A", State: line, Text: line}, {Kind: record.KindSection, Line: 3, Text: line}, {Kind: record.Kind(line), Text: line},
				{Kind: record.KindStepEnd, Step: 50 + i, Error: line}, {Kind: record.KindHeld, Name: line, Line: 3, Text: line}, {Kind: record.KindReleased, Name: line},
			} {
				e.Scenario, e.Time, e.T = "cable", at, 6
				if err := record.WriteEvent(f, e); err != nil {
					return err
				}
			}
		}
		return nil
	})
	var ticks []Tick
	for _, line := range evil {
		ticks = append(ticks, Tick{T: 3, From: "A", To: line, Kind: line, Text: line})
	}
	file := write(t, dir, Options{Ticks: map[string][]Tick{"cable": ticks}, Source: "/"})

	b := open(t, file, desk, scheme("light"))
	// The page's own: its script, and one element of data a scenario.
	if n := eval[int](b, `document.scripts.length`); n != 1+len(s.Scenarios) {
		t.Errorf("%d script elements, want %d", n, 1+len(s.Scenarios))
	}
	b.run(`for (const d of document.querySelectorAll("details.scenario")) d.open = true`)
	b.wait(`document.querySelector("[data-name=cable] .log .ln") && document.querySelector("[data-name=cable] .tl svg rect")`)
	b.run(`for (const e of document.querySelectorAll("[data-name=cable] button.src, .tl .hit")) e.dispatchEvent(new MouseEvent("click", {bubbles: true}))`)
	if n := eval[int](b, `document.querySelectorAll("img, iframe, link, object, embed, base, [onerror], [onmouseover]").length + document.querySelectorAll("meta[http-equiv=refresh]").length`); n != 0 {
		t.Errorf("%d elements have come from text", n)
	}
	lines := eval[string](b, `[...document.querySelectorAll("[data-name=cable] .ln > :last-child")].map(e => e.textContent).join("\n")`)
	for _, want := range []string{evil[0], evil[1], evil[2], `\u2028alert(4)`, `\x1b[2J`, `\u202eevil\u202c \x00 \xff\xfe`, evil[7], evil[8], "more bytes)"} {
		if !strings.Contains(lines, want) {
			t.Errorf("the node's lines have no %q", want)
		}
	}
	if strings.ContainsAny(lines, "\x1b\x00\u202e\u2028") {
		t.Error("the node's lines have control characters")
	}
	if text := eval[string](b, `document.body.textContent`); strings.Contains(text, "root:x:0") {
		t.Error("the page has a file of this host")
	}
	hrefs := eval[[]string](b, `[...document.querySelectorAll("a")].map(a => a.href)`)
	for _, href := range hrefs {
		if !strings.HasPrefix(href, "file:///") {
			t.Errorf("there is a link to %q", href)
		}
	}
	if info, err := os.Stat(file); err != nil || info.Size() > 2e6 {
		t.Errorf("%v: the page of a machine that prints a lot has %d bytes", err, info.Size())
	}
}

// A large run opens about as fast as a small one.
func TestLargeRun(t *testing.T) {
	dir := large(t, 60, 300)
	began := time.Now()
	file := write(t, dir, Options{})
	made := time.Since(began)
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	b := open(t, file, desk, scheme("light"))
	b.wait(`performance.getEntriesByType("navigation")[0].loadEventEnd > 0`)
	opened := eval[float64](b, `performance.getEntriesByType("navigation")[0].loadEventEnd`)
	took := eval[float64](b, `(() => { const at = performance.now(); document.querySelector("#s30 summary").click(); const d = document.querySelector("#s30"); d.dispatchEvent(new Event("toggle")); return d.querySelectorAll(".ln").length && performance.now() - at; })()`)
	t.Logf("made in %.2fs, %.1f MB, opened in %.0f ms, a scenario in %.0f ms", made.Seconds(), float64(info.Size())/1e6, opened, took)
	// On an idle host it is a fifth of that; tests run beside others.
	if opened > 5000 || took == 0 || took > 3000 {
		t.Errorf("opened in %.0f ms, a scenario in %.0f ms", opened, took)
	}
}

// large makes a run of many scenarios with many events and lines each, of a recorded one.
func large(t testing.TB, scenarios, events int) string {
	t.Helper()
	dir := t.TempDir()
	run, err := record.Create(dir, "large", nil)
	if err != nil {
		t.Fatal(err)
	}
	add := func(e record.Event) {
		if err := run.Append(e); err != nil {
			t.Fatal(err)
		}
	}
	add(record.Event{Kind: record.KindRunStart, Name: "large", Total: scenarios})
	for i := range scenarios {
		name, at := fmt.Sprintf("area-%d/scenario-%d", i%7, i), time.Now().UTC()
		event := func(t float64, e record.Event) {
			e.Scenario, e.T, e.Time = name, t, at.Add(asDuration(t))
			add(e)
		}
		event(0, record.Event{Kind: record.KindScenarioStart, File: name + ".txtar"})
		for _, n := range []string{"A", "B"} {
			event(0, record.Event{Kind: record.KindNode, Node: n, State: record.StateStarting})
			event(0.5, record.Event{Kind: record.KindNode, Node: n, State: record.StateReady})
			folder := filepath.Join(run.Dir(), filepath.FromSlash(name), n)
			if err := os.MkdirAll(folder, 0o755); err != nil {
				t.Fatal(err)
			}
			f, err := os.Create(filepath.Join(folder, "journal.jsonl"))
			if err != nil {
				t.Fatal(err)
			}
			for j := range 5000 {
				fmt.Fprintf(f, `{"time":%q,"seq":%d,"mono_ns":%d,"unit":"dsoftbusd","stream":"stdout","text":"dsoftbusd: line %d of what a service says when there is much to say"}`+"\n", at.Add(time.Duration(j)*time.Millisecond).Format(time.RFC3339Nano), j+1, j*1e6+1, j)
			}
			f.Close()
		}
		for j := range events / 3 {
			t := 0.5 + float64(j)*0.05
			event(t, record.Event{Kind: record.KindStepStart, Step: j + 1, Line: j + 1, Text: fmt.Sprintf("marker A 'line %d'", j)})
			event(t+0.02, record.Event{Kind: record.KindMarker, Step: j + 1, Node: "A", Unit: "dsoftbusd", Text: fmt.Sprintf("line %d", j)})
			event(t+0.04, record.Event{Kind: record.KindStepEnd, Step: j + 1, Seconds: 0.04})
		}
		result := record.Passed
		var why *record.Failure
		if i%10 == 0 {
			result, why = record.Failed, &record.Failure{Reason: record.StepFailed, Line: 4, Message: "it failed"}
		}
		event(6, record.Event{Kind: record.KindScenarioEnd, Result: result, Failure: why, Seconds: 6})
	}
	if _, err := run.Finish(nil); err != nil {
		t.Fatal(err)
	}
	return run.Dir()
}
