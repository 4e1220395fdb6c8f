package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"dsoftbus-rig/rig/history"
	"dsoftbus-rig/rig/record"
	"dsoftbus-rig/rig/report"
)

// What GitHub sets where it runs a step of a workflow.
const (
	gitHubSummary = "GITHUB_STEP_SUMMARY" // a file to which Markdown may be added
	gitHubActions = "GITHUB_ACTIONS"      // "true"
)

// tellGitHub tells a run, with notes of what is new in it, to GitHub, where that is who runs it: a table on the job's page, and, unless annotations is nil, a mark at each line that failed. A
// run does not fail for it.
func tellGitHub(s record.Summary, notes []history.Note, annotations io.Writer) {
	var errs []error
	if name := os.Getenv(gitHubSummary); name != "" {
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
		errs = append(errs, err)
		if err == nil {
			var lines []string
			for _, n := range notes {
				lines = append(lines, n.Scenario+": "+n.Text)
			}
			errs = append(errs, report.Markdown(f, s, lines), f.Close())
		}
	}
	if annotations != nil && os.Getenv(gitHubActions) == "true" {
		errs = append(errs, report.Annotations(annotations, s))
	}
	if err := errors.Join(errs...); err != nil {
		fmt.Fprintf(os.Stderr, "rig: warning: cannot write the GitHub step summary or its annotations: %v\n", err)
	}
}
