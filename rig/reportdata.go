package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"dsoftbus-rig/rig/decode"
	"dsoftbus-rig/rig/history"
	"dsoftbus-rig/rig/record"
	"dsoftbus-rig/rig/webreport"
)

// ticks are what went over the network in each scenario of a run whose capture was kept. What cannot be read is said.
func ticks(rec *record.Record, say func(string)) map[string][]webreport.Tick {
	all := map[string][]webreport.Tick{}
	for _, c := range rec.Summary.Scenarios {
		capture, err := captureOf(rec.Dir, c.Dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it passed
		}
		if err != nil {
			say(fmt.Sprintf("warning: the page has no packets of %s: %v", c.Name, err))
			continue
		}
		for _, p := range capture.Packets {
			if p.Kind == decode.Note {
				continue // the page has the steps themselves
			}
			text := p.Text
			if p.Malformed != "" {
				text += " (" + p.Malformed + ")"
			}
			all[c.Name] = append(all[c.Name], webreport.Tick{T: p.Time.Sub(c.Started).Seconds(), From: p.From, To: p.To, Kind: string(p.Kind), Text: text})
		}
	}
	return all
}

// captureOf reads what a scenario's capture has, with the keys of its sessions
// where the record has them.
func captureOf(run, dir string) (*decode.Capture, error) {
	file, err := record.Inside(run, path.Join(dir, record.CaptureFile))
	if err != nil {
		return nil, err
	}
	if _, err := record.Inside(run, path.Join(dir, record.KeysFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	keys, err := (&decodeFlags{}).keysOf(file)
	if err != nil {
		return nil, err
	}
	return decode.File(file, keys)
}

// hasKeys reports whether a record has keys of sessions. What they open is then
// on its page.
func hasKeys(rec *record.Record) bool {
	return slices.ContainsFunc(rec.Summary.Scenarios, func(c record.ScenarioSummary) bool {
		_, err := record.Inside(rec.Dir, path.Join(c.Dir, record.KeysFile))
		return err == nil
	})
}

// noted is what the run noted of its scenarios, seen against earlier runs.
func noted(rec *record.Record, say func(string)) map[string][]webreport.Note {
	notes, err := history.ReadNotes(rec.Dir)
	if err != nil {
		say(fmt.Sprintf("warning: the page does not say what is new: %v", err))
	}
	all := map[string][]webreport.Note{}
	for _, n := range notes {
		all[n.Scenario] = append(all[n.Scenario], webreport.Note{Text: n.Text, Slower: n.Kind == history.Slower})
	}
	return all
}

// before is how long scenarios took when they passed, before a run, by their own names. A page without it is a page all the same.
func before(ctx context.Context, rec *record.Record, say func(string)) map[string][]float64 {
	ctx, cancel := context.WithTimeout(ctx, pastWait)
	defer cancel()
	_, playings, err := readPast(ctx)
	if err != nil {
		say(fmt.Sprintf("warning: the page has nothing of earlier runs: %v", err))
		return nil
	}
	out := map[string][]float64{}
	for name, list := range playings {
		for _, p := range list {
			if p.Result == record.Passed && !p.Cold && p.Started.Before(rec.Summary.Started) {
				out[name] = append(out[name], p.Seconds)
			}
		}
	}
	return out
}
