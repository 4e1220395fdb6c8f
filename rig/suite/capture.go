package suite

import (
	"fmt"
	"path/filepath"

	"dsoftbus-rig/rig/capture"
	"dsoftbus-rig/rig/record"
)

// Keep says of which scenarios something is kept. The zero value is KeepNever.
type Keep string

// What can be kept.
const (
	KeepNever  Keep = "never"
	KeepFail   Keep = "fail" // of those that are not green
	KeepAlways Keep = "always"
)

// Valid reports whether it is one of these.
func (k Keep) Valid() bool { return k == KeepNever || k == KeepFail || k == KeepAlways }

// newCapture returns the capture of a job, nil when nothing is kept of it.
func (j *Job) newCapture() *capture.Capture {
	if j.Capture == "" || j.Capture == KeepNever {
		return nil
	}
	file := filepath.Join(j.RunDir, filepath.FromSlash(j.Dir), record.CaptureFile)
	return capture.New(file, j.CaptureLimit)
}

// keeps says whether the frames of a scenario are kept that ends so.
func (j *Job) keeps(result record.Result) bool { return j.Capture == KeepAlways || !result.Green() }

// keepCapture ends the capture, by the scenario's end, of which the file has the verdict.
func (p *play) keepCapture(end record.Event) {
	p.capture.Event(end)
	keep := p.job.keeps(end.Result)
	stats, err := p.capture.Stop(keep)
	if err != nil {
		p.tell(record.Event{Kind: record.KindWarning, Text: err.Error()})
	}
	if !keep {
		return
	}
	for _, line := range stats.Warnings() {
		p.tell(record.Event{Kind: record.KindWarning, Text: fmt.Sprintf("capture: %s", line)})
	}
}
