// Package record holds what happened in a run, as events in time, and owns the run's folder on disk.
//
// A run is one folder, runs/<YYYYMMDD-HHMMSS>-<name>/, with a link called latest beside it:
//
//	events.jsonl              every event of every scenario, one JSON object a line
//	summary.json              the run in one object, written once, when the run ends
//	junit.xml                 the same for build servers (written by package report)
//	<area>/<name>/            one folder per scenario
//	    events.jsonl          this scenario's events
//	    work/                 the scenario's own folder, $WORK
//	    A/console.log         what node A's kernel printed, byte for byte
//	    A/journal.jsonl       what node A's services printed, line by line
//	    A/qemu.log            what its QEMU printed
//	    A/qemu.cmd            the quoted command line that started it
//
// The parent process writes the run's files (Run), the worker of a scenario writes those of the scenario (Scenario), and anybody
// may read them back (Load), also while the run is going on and after it was killed. docs/record.md describes every field.
//
// The package never decides a verdict, never talks to a machine or a terminal, and never removes a record.
package record
