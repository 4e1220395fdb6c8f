package scenario

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"dsoftbus-rig/rig/record"
)

func TestDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil)
		withSlow(b)
		var problems Problems
		var failure *record.Failure
		var end *End
		for _, tt := range []struct {
			line string
			as   any    // what the error is; nil: none
			text string // in it
		}{
			{"", nil, ""},
			{"# a comment", nil, ""},
			{"exec A true", &problems, "prompt:3: exec: node A is not up here; put `up` in front"},
			{"upp", &problems, `unknown command "upp"; did you mean "up"?`},
			{"exec A true", &problems, "not up here"},
			{"up\nup", &problems, "line break"},
			{"node C", nil, ""},
			{"up", nil, ""},
			{"node D", &problems, "after `up`"},
			{"exec C echo hi", nil, ""},
			{"stdout hi", nil, ""},
			{"stdout ho", &failure, `prompt:12: stdout ho: no line of stdout matches "ho"`},
			{"env X=5", nil, ""},
			{"exec A echo $X", nil, ""},
			{"stdout ^5$", nil, ""},
			{"exec A slow 5s late &j&", nil, ""},
			{"exec A echo $Y", &problems, "variable $Y is not set"},
			{"wait k", &problems, `no background job "k"`},
			{"wait j", nil, ""},
			{"stdout late", nil, ""},
			{"wait j", &problems, `no background job "j"`},
			{"cp stdout made", nil, ""},
			{"cat made", nil, ""},
			{"cat missing", &problems, `no fixture "missing"`},
			{"stop 'for today'", &end, "stop: for today"},
			{"exec A complain a b", &failure, "exit status 3: a b"},
		} {
			err := b.engine.Do(t.Context(), tt.line, nil)
			if tt.as == nil {
				if err != nil {
					t.Fatalf("%s: %v", tt.line, err)
				}
				continue
			}
			if err == nil || !errors.As(err, tt.as) || !strings.Contains(err.Error(), tt.text) {
				t.Fatalf("%s: %T %v, want %T with %q", tt.line, err, err, tt.as, tt.text)
			}
		}
	})
}

func TestDoIsCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil)
		if err := b.engine.Do(t.Context(), "up", nil); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var failure *record.Failure
		if err := b.engine.Do(ctx, "exec A hang", nil); !errors.As(err, &failure) || failure.Reason != record.Stopped {
			t.Fatalf("got %v", err)
		}
		if err := b.engine.Do(t.Context(), "exec A true", nil); err != nil {
			t.Errorf("the next line: %v", err)
		}
	})
}

func TestFailBetweenLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil)
		panicked := &NodeError{Node: "A", Reason: record.KernelPanic, Text: "Kernel panic"}
		if err := b.engine.Do(t.Context(), "up", nil); err != nil {
			t.Fatal(err)
		}
		b.engine.Fail(panicked)
		b.engine.Fail(&NodeError{Node: "B", Reason: record.NodeExited})
		if err := b.engine.Do(t.Context(), "up A", nil); err != nil {
			t.Errorf("the line behind it: %v", err)
		}
		if got := b.seen(record.KindWarning); len(got) != 1 || got[0].Node != "A" {
			t.Errorf("warnings %+v", got)
		}
		go func() {
			time.Sleep(time.Second)
			b.engine.Fail(panicked)
		}()
		var failure *record.Failure
		if err := b.engine.Do(t.Context(), "exec A hang", nil); !errors.As(err, &failure) || failure.Reason != record.KernelPanic {
			t.Errorf("the line it ended: %v", err)
		}
		if err := b.engine.Do(t.Context(), "exec A true", nil); err != nil {
			t.Errorf("the line behind that: %v", err)
		}
		if got := b.seen(record.KindWarning); len(got) != 1 {
			t.Errorf("warned of what had ended a line: %+v", got)
		}
	})
}

func TestComplete(t *testing.T) {
	b := newBench(t, func(c *Config) { c.Programs = append(slices.Clone(testPrograms), "/bin/hang") })
	b.passes("node C\nup\n? exec A hang &gone&\ncat note.txt\n-- note.txt --\nx\n-- B/packages/x y --\nx\n")
	for _, line := range []string{"budget open 1h", "? exec A hang &job&"} {
		if err := b.engine.Do(t.Context(), line, nil); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		line string // the cursor is at the bar
		want string // the start, then the words
	}{
		{"sta|", "0 start"},
		{"  st|", "2 start stderr stdout stop"},
		{"! ex|", "2 exec"},
		{"[k|", "0 [kvm]"},
		{"[|", "0 [!arch:amd64] [!arch:arm64] [!arch:riscv64] [!kvm] [!root] [!tcg] [arch:amd64] [arch:arm64] [arch:riscv64] [kvm] [root] [tcg]"},
		{"[kvm] [!a|", "6 [!arch:amd64] [!arch:arm64] [!arch:riscv64]"},
		{"exec |", "5 * A B C"},
		{"exec A self|", "7 selftest-client"},
		{"exec A echo |", "12"},
		{"exec -|", "5 -status -within"},
		{"exec A -|", "7"},
		{"marker -f|", "7 -from"},
		{"marker -from |", "13 start"},
		{"marker -count 2 |", "16 * A B C"},
		{"marker -count=2 |", "16 * A B C"},
		{"start A |", "8 dsoftbusd packagefsd"},
		{"kill -s T|", "8 TERM"},
		{"push A |", "7 'B/packages/x y' note.txt"},
		{"push A n| /tmp", "7 note.txt"},
		{"push A 'B|", "7 'B/packages/x y'"},
		{"cp note.txt s|", "12 stderr stdout"},
		{"tcp |", "4 A: B: C:"},
		{"wait |", "5 job"},
		{"budget -end |", "12 open"},
		{"exec A echo $A|", "12 $A_ID $A_IP"},
		{"exec A echo x=$W|", "12 x=$WORK"},
		{"help mark|", "5 marker"},
		{"fly A|", "4"},
		{"exec A # B|", "10"},
		{"$X |", "3"},
		{"stop B d|", "7 dsoftbusd"},
	} {
		line := strings.Replace(tt.line, "|", "", 1)
		start, words := b.engine.Complete(line, strings.Index(tt.line, "|"))
		if got := strings.Join(append([]string{strconv.Itoa(start)}, words...), " "); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.line, got, tt.want)
		}
	}
}
