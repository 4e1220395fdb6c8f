package packagefsd

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"dsoftbus-rig/protocol/pk"
)

func TestRequestForm(t *testing.T) {
	name := pk.Name{Bundle: "system", Version: "1.0.0", Path: "etc/build.prop"}
	msg := appendRequest(nil, opResolve, name)
	if want := "PF\x01\x01\x06\x00\x05\x00system1.0.0etc/build.prop"; string(msg) != want {
		t.Errorf("form is %q, want %q", msg, want)
	}
	if op, got, err := parseRequest(msg); err != nil || op != opResolve || got != name {
		t.Errorf("it came back as %d %+v, %v", op, got, err)
	}
	for _, bad := range []string{
		"", "PF", "PF\x01\x01\x00\x00\x00", "PK\x01\x01\x00\x00\x00\x00", "PF\x02\x01\x00\x00\x00\x00",
		"PF\x01\x00\x00\x00\x00\x00", "PF\x01\x03\x00\x00\x00\x00", "PF\x01\x01\x02\x00\x00\x00a", "PF\x01\x01\xff\xff\xff\xffa",
		"PF\x01\x02\x01\x00\x00\x00a",
	} {
		if op, name, err := parseRequest([]byte(bad)); !errors.Is(err, errMalformed) {
			t.Errorf("%q is %d %+v, %v; want malformed", bad, op, name, err)
		}
	}
}

func TestAnswerForm(t *testing.T) {
	msg := appendAnswer(nil, statusNotFound, 258, "why")
	if want := "PF\x01\x01\x02\x01\x00\x00\x00\x00\x00\x00why"; string(msg) != want {
		t.Errorf("form is %q, want %q", msg, want)
	}
	if status, size, text, err := parseAnswer(msg); err != nil || status != statusNotFound || size != 258 || text != "why" {
		t.Errorf("it came back as %d %d %q, %v", status, size, text, err)
	}
	if got := len(appendAnswer(nil, statusFailed, 0, strings.Repeat("x", 4*maxText))); got != maxAnswer {
		t.Errorf("an answer with a long text has %d bytes, want %d", got, maxAnswer)
	}
	for _, bad := range []string{
		"", "PF\x01\x00", "PK\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00", "PF\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
		"PF\x01\x04\x00\x00\x00\x00\x00\x00\x00\x00", "PF\x01\x00\xff\xff\xff\xff\xff\xff\xff\xff",
	} {
		if _, _, _, err := parseAnswer([]byte(bad)); !errors.Is(err, errMalformed) {
			t.Errorf("%q: %v, want malformed", bad, err)
		}
	}
}

func FuzzMessages(f *testing.F) {
	f.Add(appendRequest(nil, opResolve, pk.Name{Bundle: "system", Version: "1.0.0", Path: "x"}))
	f.Add(appendRequest(nil, opPing, pk.Name{}))
	f.Add(appendAnswer(nil, statusOK, 19, ""))
	f.Fuzz(func(t *testing.T, msg []byte) {
		if op, name, err := parseRequest(msg); err == nil && !bytes.Equal(appendRequest(nil, op, name), msg) {
			t.Errorf("request %q became %d %+v", msg, op, name)
		}
		if status, size, text, err := parseAnswer(msg); err == nil && len(text) <= maxText && !bytes.Equal(appendAnswer(nil, status, size, text), msg) {
			t.Errorf("answer %q became %d %d %q", msg, status, size, text)
		}
	})
}

// The kernel cuts a file off when the receiver has no descriptor free for it.
func TestAnswerWithoutRoomForItsFile(t *testing.T) {
	ok := appendAnswer(nil, statusOK, 19, "")
	if _, err := checkAnswer(ok, unix.MSG_CTRUNC, 0); !errors.Is(err, unix.EMFILE) || errors.Is(err, errMalformed) {
		t.Errorf("error %v", err)
	}
	for _, bad := range []struct{ flags, files int }{{unix.MSG_TRUNC, 0}, {unix.MSG_TRUNC | unix.MSG_CTRUNC, 0}, {unix.MSG_CTRUNC, 1}, {0, 2}} {
		if _, err := checkAnswer(ok, bad.flags, bad.files); !errors.Is(err, errMalformed) {
			t.Errorf("%+v: error %v", bad, err)
		}
	}
}
