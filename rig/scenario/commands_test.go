package scenario

import (
	"context"
	"encoding/hex"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"dsoftbus-rig/rig/record"
)

func TestNodeCommandsReachTheWorld(t *testing.T) {
	b := newBench(t, nil)
	b.passes(`node EDGE
up -cold A B
up -only EDGE
start * dsoftbusd -pk-max-read 128
stop A packagefsd
kill B dsoftbusd
kill -s TERM EDGE dsoftbusd
kill -s SIGUSR1 EDGE dsoftbusd
up *
`)
	want := []string{
		"declare EDGE",
		"up [A B] cold=true only=false",
		"up [EDGE] cold=false only=true",
		`start A dsoftbusd ["-pk-max-read" "128"]`,
		`start B dsoftbusd ["-pk-max-read" "128"]`,
		`start EDGE dsoftbusd ["-pk-max-read" "128"]`,
		"stop A packagefsd",
		"kill B dsoftbusd SIGKILL",
		"kill EDGE dsoftbusd SIGTERM",
		"kill EDGE dsoftbusd SIGUSR1",
		"up [] cold=false only=false",
	}
	slices.Sort(b.world.calls[3:6]) // they ran at once
	if !slices.Equal(b.world.calls, want) {
		t.Errorf("calls:\n%s\nwant:\n%s", strings.Join(b.world.calls, "\n"), strings.Join(want, "\n"))
	}
}

func TestCopies(t *testing.T) {
	b := newBench(t, nil)
	b.passes(`up
push * note.txt /tmp/note
pull A /tmp/note got/deep/note
cmp got/deep/note note.txt
exec A echo hello
cp stdout out.txt
cp stdout note.txt folder
cmp folder/note.txt note.txt
grep -count=1 '^hello$' folder/stdout
cp out.txt got
cat got/out.txt $WORK/note.txt
stdout -whole '^hello\nwith\nlines\n'
sha256 WANT note.txt
sha256 GOT got/deep/note
env GOT
stdout ^GOT=$WANT$
exec A echo x
sha256 OUT stdout
exec A echo $OUT
stdout '^73cb3858a687a8494ca3323053016282f3dad39d42cf62ca4e79dda2aac7d9ac$'
-- note.txt --
with
lines
`)
	for _, tt := range []struct {
		script string
		reason record.Reason
		text   string
	}{
		{"pull A /missing note.txt", record.StepFailed, "node A: pull /missing: /missing: no such file"},
		{"cp note.txt note.txt/x", record.StepFailed, "cp: make folder note.txt: file exists"},
		{"exec A true note.txt\nsha256 X stdout\necho $X", record.ContentMismatch, "sha256: stdout is empty"},
		{"[kvm] cp note.txt new\ncat new", record.StepFailed, "open new: no such file or directory"},
		{"[kvm] cp note.txt new\nsha256 X new\necho $X", record.StepFailed, "sha256: open new: no such file or directory"},
	} {
		b := newBench(t, nil)
		b.fails("up\n"+tt.script+"\n-- note.txt --\nx\n", tt.reason, 2+strings.Count(strings.TrimSuffix(tt.script, "\necho $X"), "\n"), tt.text)
	}
}

func TestLargeFilesAreNotRead(t *testing.T) {
	b := newBench(t, nil)
	f, err := os.Create(filepath.Join(b.engine.cfg.Work, "large"))
	if err == nil {
		err = errors.Join(f.Truncate(maxRead+1), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	b.fails("up\n[kvm] pull A /x large\ncat large\n", record.StepFailed, 3, "the limit is 67108864")
}

func TestMatching(t *testing.T) {
	for _, tt := range []struct {
		script string
		text   string // of the failure; empty: passes
	}{
		{"stdout two", ""},
		{"stdout ^two$", ""},
		{"stdout -whole 'e\\nt'", ""},
		{"stdout -whole '^one\\ntwo\\n$'", ""},
		{"stdout -whole '^one\\ntwo$'", `stdout as a whole does not match "^one\\ntwo$"; stdout is 8 bytes:`},
		{"stdout -whole ^$", `stdout as a whole does not match "^$"; stdout is 8 bytes:`},
		{"! stdout -whole ^one", `stdout as a whole matches "^one", which '!' forbids; stdout is 8 bytes:`},
		{"stderr -whole ^$", ""},
		{"! stderr -whole ^$", `stderr as a whole matches "^$", which '!' forbids; stderr is empty`},
		{"stdout ^$", `no line of stdout matches "^$"; stdout is 8 bytes:`},
		{"stderr ^$", `no line of stderr matches "^$"; stderr is empty`},
		{"! stderr ^$", ""},
		{"stdout three", "no line of stdout matches \"three\"; stdout is 8 bytes:\none\ntwo\n"},
		{"! stdout three", ""},
		{"! stdout two", "a line of stdout matches \"two\", which '!' forbids: two; stdout is 8 bytes:\none\ntwo\n"},
		{"! stdout -count 2 o", "2 lines of stdout match \"o\", which '!' forbids: one; stdout is 8 bytes"},
		{"! stdout -count 3 o", ""},
		{"stdout -count 1 '[et]'", "2 lines of stdout match \"[et]\", not 1: one; stdout is 8 bytes"},
		{"? stdout three", ""},
		{"stdout -count 2 o", ""},
		{"stdout -count 3 o", `2 lines of stdout match "o", not 3: one; stdout is 8 bytes`},
		{"stderr x", `no line of stderr matches "x"; stderr is empty`},
		{"! stderr .", ""},
		{"grep ^x note", ""},
		{"grep y note", `no line of note matches "y"; note is 4 bytes`},
		{"! grep ^x note", "a line of note matches \"^x\", which '!' forbids: x; note is 4 bytes"},
		{"grep ^$ blank", ""},
		{"grep -count 2 ^$ blank", ""},
		{"grep -count 3 ^$ blank", `2 lines of blank match "^$", not 3: ; blank is 4 bytes`},
		{"grep y$ unended", ""},
		{"grep one stdout", ""},
		{"cmp note same", ""},
		{"! cmp note other", ""},
		{"! cmp note same", "note and same do not differ: each is 4 bytes:\nx\nz\n"},
		{"cmp note other", "note and other differ: \ndiff other note\n--- other\n+++ note\n"},
		{"cmp stdout lines", ""},
	} {
		b := newBench(t, nil)
		script := "up\nexec A lines\n" + tt.script + "\ncat note same other lines blank unended\n-- note --\nx\nz\n-- same --\nx\nz\n-- other --\nx\nq\n-- lines --\none\ntwo\n-- blank --\n\nx\n\n-- unended --\nx\ny"
		b.world.programs["lines"] = func(_ context.Context, _ []string, stdout, _ writer) (int, error) {
			_, err := stdout.Write([]byte("one\ntwo\n"))
			return 0, err
		}
		if tt.text == "" {
			b.passes(script)
			continue
		}
		node := "" // whose output it is about
		if strings.Contains(tt.script, "std") {
			node = "A"
		}
		if f := b.fails(script, record.ContentMismatch, 3, tt.text); f.Node != node {
			t.Errorf("%s: node %q, want %q", tt.script, f.Node, node)
		}
	}
}

func TestDifference(t *testing.T) {
	names := [2]string{"got", "want"}
	for _, tt := range []struct{ a, b, want string }{
		{"a\x00b", "a\x00c", "first at byte 2: got is 0x62, not 0x63; they have 3 and 3 bytes"},
		{"a\x00", "a\x00c", "first at byte 2: got is the end, not 0x63; they have 2 and 3 bytes"},
		{"\xff", "", "first at byte 0: got is 0xff, not the end; they have 1 and 0 bytes"},
		{"a\nb\n", "a\nc\n", "\ndiff want got\n--- want\n+++ got\n@@ -1,2 +1,2 @@\n a\n-c\n+b\n"},
	} {
		if got := difference(names, []byte(tt.a), []byte(tt.b)); got != tt.want {
			t.Errorf("%q and %q: %q, want %q", tt.a, tt.b, got, tt.want)
		}
	}
	many := difference(names, []byte(strings.Repeat("a\n", 10_000)), []byte(strings.Repeat("b\n", 10_000)))
	if len(many) > maxShown+100 || !strings.HasSuffix(many, "… and more\n") {
		t.Errorf("a diff of %d bytes", len(many))
	}
}

func TestWire(t *testing.T) {
	echo := func(_ context.Context, _ netip.AddrPort, send []byte) ([]byte, error) { return send, nil }
	for _, tt := range []struct {
		script, call string
		tcp          func(context.Context, netip.AddrPort, []byte) ([]byte, error)
		text         string // of the failure; empty: passes
	}{
		{"tcp B:34567 '50 4b 01'\nstdout ^504b01$", "tcp 10.42.0.11:34567 504b01", echo, ""},
		{"tcp B:1 ''\nstdout -whole ^$", "tcp 10.42.0.11:1 ", echo, ""},
		{"tcp B:1 abcd\nstdout 686578", "tcp 10.42.0.11:1 6865780a", echo, ""},
		{"tcp -hex B:1 abcd\nstdout abcd", "tcp 10.42.0.11:1 abcd", echo, ""},
		{"tcp $A_IP:1 00", "tcp 10.42.0.10:1 00", echo, ""},
		{"env P=1\ntcp A:$P 00", "tcp 10.42.0.10:1 00", echo, ""},
		{"env P=x\ntcp A:$P 00", "", echo, `bad port "x"`},
		{"env P=x\ntcp A:1 $P", "", echo, `"x" is neither hex nor a file`},
		{
			"tcp B:1 00", "tcp 10.42.0.11:1 00",
			func(context.Context, netip.AddrPort, []byte) ([]byte, error) {
				return nil, errors.New("connection refused")
			}, "tcp 10.42.0.11:1, 0 bytes of answer: connection refused",
		},
		{
			"! tcp B:1 00", "tcp 10.42.0.11:1 00",
			func(context.Context, netip.AddrPort, []byte) ([]byte, error) {
				return nil, errors.New("connection refused")
			}, "",
		},
		{
			"tcp -within 5s B:1 00", "tcp 10.42.0.11:1 00",
			func(ctx context.Context, _ netip.AddrPort, _ []byte) ([]byte, error) {
				<-ctx.Done()
				return []byte{1, 2}, ctx.Err()
			}, "2 bytes of answer: not within 5s",
		},
		{"udp C:37020 '4e58 53 42'", "udp invalid AddrPort 10.42.0.12:37020 4e585342", nil, ""},
		{"udp -from A C:1 00", "udp 10.42.0.10:0 10.42.0.12:1 00", nil, ""},
		{"udp -from 10.42.0.99:7 239.42.0.1:1 ''", "udp 10.42.0.99:7 239.42.0.1:1 ", nil, ""},
		{"env X=Z\nudp -from $X A:1 00", "", nil, `unknown node "Z"`},
		{"env X=0\nudp A:1 $X", "", nil, "bad hex: odd length hex string"},
	} {
		t.Run(tt.script, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, nil)
				b.world.tcp = tt.tcp
				out := b.run(t.Context(), "node C\nup\n"+tt.script+"\ncat abcd\n-- abcd --\nhex\n")
				if tt.text == "" && out.Result != record.Passed {
					t.Fatalf("result %s: %v", out.Result, out.Failure)
				}
				if tt.text != "" && (out.Failure == nil || !strings.Contains(out.Failure.Message, tt.text)) {
					t.Fatalf("result %s: %v; want %s", out.Result, out.Failure, tt.text)
				}
				if tt.call != "" && b.world.calls[2] != tt.call {
					t.Errorf("call %q, want %q", b.world.calls[2], tt.call)
				}
			})
		})
	}
}

func TestTCPKeepsWhatCameBeforeTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil)
		b.world.tcp = func(ctx context.Context, _ netip.AddrPort, _ []byte) ([]byte, error) {
			<-ctx.Done()
			return []byte{0xca, 0xfe}, ctx.Err()
		}
		b.passes("up\n? tcp -within 1s B:1 00\nstdout ^cafe$\n")
	})
}

func TestLongAnswers(t *testing.T) {
	b := newBench(t, nil)
	answer := []byte(strings.Repeat("\x01", 100_000))
	b.world.tcp = func(context.Context, netip.AddrPort, []byte) ([]byte, error) { return answer, nil }
	b.passes("up\ntcp B:1 00\ncp stdout answer\n")
	got, err := os.ReadFile(filepath.Join(b.engine.cfg.Work, "answer"))
	if err != nil || strings.TrimSpace(string(got)) != hex.EncodeToString(answer) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestEnvironment(t *testing.T) {
	b := newBench(t, nil)
	b.passes("up\nenv X=1 Y=a=b\nenv X=$X$X\nenv X\nstdout ^X=11$\nenv\nstdout '^A_ID=node-a$'\nstdout ^Y=a=b$\nstdout ^WORK=$WORK$\necho $X '$X' ${X}5\nstdout '^11 [$]X 115$'\n")
	b.fails("up\n[kvm] env Z=1\nenv Z\n", record.Invalid, 3, "variable $Z is not set")
}

func TestHelpCommand(t *testing.T) {
	b := newBench(t, nil)
	b.passes("help\nstdout '^  marker +waits until'\nhelp marker exec\nstdout '^marker \\[-within D\\]'\nstdout ^exec\n")
}

func TestSleepIsAJobToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil)
		start := time.Now()
		b.passes("sleep 2s &\nsleep 1s\nwait\n")
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("took %s", took)
		}
	})
}
