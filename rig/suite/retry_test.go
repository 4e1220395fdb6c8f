package suite

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dsoftbus-rig/rig/record"
)

// tried are the scenarios of a summary with their results and tries.
func tried(s record.Summary) (out []string) {
	for _, c := range s.Scenarios {
		line := c.Name + " " + string(c.Result)
		if c.Played > 0 {
			line += fmt.Sprintf(" %d/%d", c.Failed, c.Played)
		}
		if c.RetryOf != "" {
			line += " of " + c.RetryOf
		}
		out = append(out, line)
	}
	return out
}

func TestAScenarioThatFailedIsTriedAgain(t *testing.T) {
	tests := []struct {
		name  string
		cfg   Config
		play  []string
		want  []string
		count map[record.Result]int
		exit  int
	}{
		{
			name: "passes at the second try", cfg: Config{Rounds: 1, Retries: 3}, play: []string{"bad/once", "good/a"},
			want:  []string{"bad/once flaky 1/2", "bad/once@retry1 passed of bad/once", "good/a passed"},
			count: map[record.Result]int{record.Flaky: 1, record.Passed: 1}, exit: record.ExitFailed,
		},
		{
			name: "in a later round", cfg: Config{Rounds: 2, Retries: 2}, play: []string{"bad/twice"},
			want: []string{
				"bad/twice passed", "bad/twice@2 flaky 2/3",
				"bad/twice@2.retry1 failed of bad/twice@2", "bad/twice@2.retry2 passed of bad/twice@2",
			},
			count: map[record.Result]int{record.Passed: 1, record.Flaky: 1}, exit: record.ExitFailed,
		},
		{
			name: "never passes", cfg: Config{Rounds: 1, Retries: 2}, play: []string{"bad/fails"},
			want:  []string{"bad/fails failed 3/3", "bad/fails@retry1 failed of bad/fails", "bad/fails@retry2 failed of bad/fails"},
			count: map[record.Result]int{record.Failed: 1}, exit: record.ExitFailed,
		},
		{
			name: "a worker that died, and then a failure", cfg: Config{Rounds: 1, Retries: 2}, play: []string{"bad/worse"},
			want:  []string{"bad/worse failed 3/3", "bad/worse@retry1 failed of bad/worse", "bad/worse@retry2 broken of bad/worse"},
			count: map[record.Result]int{record.Failed: 1}, exit: record.ExitFailed,
		},
		{
			name: "a worker that died", cfg: Config{Rounds: 1, Retries: 1}, play: []string{"bad/died"},
			want:  []string{"bad/died flaky 1/2", "bad/died@retry1 passed of bad/died"},
			count: map[record.Result]int{record.Flaky: 1}, exit: record.ExitFailed,
		},
		{
			name: "what is not well formed stays so", cfg: Config{Rounds: 1, Retries: 1}, play: []string{"bad/unwell"},
			want: []string{"bad/unwell failed"}, count: map[record.Result]int{record.Failed: 1}, exit: record.ExitInvalid,
		},
		{
			name: "nothing new, but tries", cfg: Config{Rounds: 1, Retries: 1, FailFast: true}, play: []string{"bad/once", "good/a"},
			want:  []string{"bad/once flaky 1/2", "bad/once@retry1 passed of bad/once"},
			count: map[record.Result]int{record.Flaky: 1}, exit: record.ExitFailed,
		},
		{
			name: "nobody asked for it", cfg: Config{Rounds: 1}, play: []string{"bad/once"},
			want: []string{"bad/once failed"}, count: map[record.Result]int{record.Failed: 1}, exit: record.ExitFailed,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var verdicts []record.Event
			summary, _ := playConfig(t, t.Context(), tt.cfg, func(e record.Event) {
				if e.Kind == record.KindVerdict {
					verdicts = append(verdicts, e)
				}
			}, tt.play...)
			if diff := cmp.Diff(tt.want, tried(summary)); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(tt.count, summary.Counts); diff != "" {
				t.Error(diff)
			}
			if summary.Exit != tt.exit {
				t.Errorf("exit status %d, %s", summary.Exit, summary.Result)
			}
			if want := len(tt.play) * tt.cfg.Rounds; summary.Planned != want || summary.NotPlayed != want-total(tt.count) {
				t.Errorf("planned %d, not played %d", summary.Planned, summary.NotPlayed)
			}
			for _, s := range summary.Scenarios {
				if s.Result == record.Flaky && (s.Failure == nil || s.Failure.Reason == "") {
					t.Errorf("%s does not say why it failed", s.Name)
				}
				if s.RetryOf != "" && s.Of == "" {
					t.Errorf("%s is of no scenario", s.Name)
				}
			}
			for _, e := range verdicts {
				if e.Failure == nil {
					t.Errorf("a verdict without the first failure: %+v", e)
				}
			}
		})
	}
}

func total(counts map[record.Result]int) (n int) {
	for _, c := range counts {
		n += c
	}
	return n
}

// A further try that is cut off says nothing about its scenario, but the run was interrupted.
func TestATryThatIsCutOffIsNone(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	summary, _ := playConfig(t, ctx, Config{Rounds: 1, Retries: 1}, func(e record.Event) {
		if e.Scenario == "bad/again@retry1" && e.Kind == record.KindScenarioStart {
			cancel(errors.New("enough"))
		}
	}, "bad/again")
	got := tried(summary)
	if !slices.Equal(got, []string{"bad/again failed", "bad/again@retry1 interrupted of bad/again"}) || summary.Exit != record.ExitInterrupted {
		t.Errorf("%q, exit status %d", got, summary.Exit)
	}
}
