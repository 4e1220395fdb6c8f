package bench

import (
	"encoding/json"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"dsoftbus-rig/rig/record"
)

// Schema is the version of a Report's JSON. It changes when a reader of the old form would misunderstand the new one; added fields
// do not change it.
const Schema = 2

// A Report is what was measured. A group that was not asked for is nil, one that failed has as much as was measured before.
type Report struct {
	Schema    int          `json:"schema"`
	Started   time.Time    `json:"started"`
	Seconds   float64      `json:"seconds"`
	Host      Host         `json:"host"`
	Pair      *Pair        `json:"pair,omitempty"`
	Memory    *Memory      `json:"memory,omitempty"`
	Roundtrip *Roundtrip   `json:"roundtrip,omitempty"`
	Suite     *Suite       `json:"suite,omitempty"`
	Link      *Link        `json:"link,omitempty"`
	Targets   []Target     `json:"targets"` // of the figures that are there
	Errors    []GroupError `json:"errors,omitempty"`
}

// Host says what was measured on. Figures of machines that do something else besides are worth less: see Load.
type Host struct {
	record.Host
	Processor string    `json:"processor,omitempty"`
	Cores     int       `json:"cores"`
	Load      []float64 `json:"load_average,omitempty"` // over 1, 5 and 15 minutes, when the measurement began
}

// A GroupError is why a group is not complete.
type GroupError struct {
	Group string `json:"group"`
	Error string `json:"error"`
}

// A Target is what a figure should reach.
type Target struct {
	Figure  string  `json:"figure"` // its path in the JSON
	Value   float64 `json:"value"`
	AtMost  float64 `json:"at_most,omitempty"` // one of the two
	AtLeast float64 `json:"at_least,omitempty"`
	Reached bool    `json:"reached"`
}

// Missed returns how many targets were missed.
func (r *Report) Missed() int {
	n := 0
	for _, t := range r.Targets {
		if !t.Reached {
			n++
		}
	}
	return n
}

// Figures that have a target, by their path in the JSON.
const (
	figureWarm      = "pair.warm_seconds.median"
	figureColdWarm  = "pair.cold_over_warm"
	figureTeardown  = "pair.teardown_seconds.median"
	figureMemory    = "memory.idle.further_clone_bytes.median"
	figureRoundtrip = "roundtrip.whole_seconds.median"
	figureSuite     = "suite.default_jobs.scenarios_per_minute"
	figureNoise     = "link.reads_over_noise.median"
	figurePipeline  = "link.pipelined_over_single.median"
)

// targets compares the figures that are there with what they should be.
func targets(r *Report) []Target {
	out := []Target{}
	add := func(t Target) {
		t.Reached = t.AtMost > 0 && t.Value <= t.AtMost || t.AtLeast > 0 && t.Value >= t.AtLeast
		out = append(out, t)
	}
	median := func(s *Samples, t Target) {
		if s != nil {
			t.Value = s.Median
			add(t)
		}
	}
	if p := r.Pair; p != nil {
		median(p.Warm, Target{Figure: figureWarm, AtMost: 0.150})
		if p.ColdOverWarm > 0 {
			add(Target{Figure: figureColdWarm, Value: p.ColdOverWarm, AtLeast: 20})
		}
		median(p.Teardown, Target{Figure: figureTeardown, AtMost: 0.100})
	}
	if m := r.Memory; m != nil {
		median(m.Idle.Further, Target{Figure: figureMemory, AtMost: 40 << 20})
	}
	if rt := r.Roundtrip; rt != nil {
		median(rt.Whole, Target{Figure: figureRoundtrip, AtMost: 1.0})
	}
	if s := r.Suite; s != nil && s.Default != nil {
		add(Target{Figure: figureSuite, Value: s.Default.PerMinute, AtLeast: 60})
	}
	if l := r.Link; l != nil {
		median(l.ReadsOverNoise, Target{Figure: figureNoise, AtLeast: 0.90})
		median(l.PipelinedOverSingle, Target{Figure: figurePipeline, AtLeast: 8})
	}
	return out
}

// WriteJSON writes the report as one JSON object.
func (r *Report) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

// describe looks at the host as it is now.
func describe(cfg Config) Host {
	h := Host{Host: *cfg.Host.Record(cfg.Images, 1), Cores: runtime.NumCPU()}
	if data, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		h.Processor = processor(string(data))
	}
	if data, err := os.ReadFile("/proc/loadavg"); err == nil {
		h.Load = loads(string(data))
	}
	return h
}

// processor returns the first "model name" of a /proc/cpuinfo; some architectures have none.
func processor(cpuinfo string) string {
	for line := range strings.Lines(cpuinfo) {
		key, value, _ := strings.Cut(line, ":")
		if strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// loads returns the three averages of a /proc/loadavg.
func loads(loadavg string) []float64 {
	fields := strings.Fields(loadavg)
	if len(fields) < 3 {
		return nil
	}
	var out []float64
	for _, field := range fields[:3] {
		load, err := strconv.ParseFloat(field, 64)
		if err != nil {
			return nil
		}
		out = append(out, load)
	}
	return out
}
