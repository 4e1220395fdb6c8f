package session

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestParseControl(t *testing.T) {
	tests := []struct {
		payload string
		want    Control
		ok      bool
	}{
		{"\x01", Control{Kind: Ping}, true},
		{"\x02", Control{Kind: Pong}, true},
		{"\x03", Control{Kind: CloseSession}, true},
		{"\x03going away", Control{Kind: CloseSession, Reason: "going away"}, true},
		{"", Control{}, false},
		{"\x00", Control{}, false},
		{"\x04", Control{}, false},
		{"\x01x", Control{}, false},
		{"\x02x", Control{}, false},
		{"\x03\xff", Control{}, false},
	}
	for _, tt := range tests {
		got, err := ParseControl([]byte(tt.payload))
		if got != tt.want || (err == nil) != tt.ok || (err != nil && !errors.Is(err, ErrControl)) {
			t.Errorf("%q: got %+v, %v", tt.payload, got, err)
		}
	}
}

func TestAppendControl(t *testing.T) {
	for want, got := range map[string][]byte{
		"head\x01":    AppendPing([]byte("head")),
		"head\x02":    AppendPong([]byte("head")),
		"head\x03why": AppendClose([]byte("head"), "why"),
	} {
		if string(got) != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestLongReasonIsCutBetweenCharacters(t *testing.T) {
	for pad := range 4 {
		c, err := ParseControl(AppendClose(nil, strings.Repeat("x", pad)+strings.Repeat("€", 100)))
		if err != nil || len(c.Reason) > MaxReason || len(c.Reason) < MaxReason-3 || !utf8.ValidString(c.Reason) {
			t.Errorf("pad %d: %d bytes, %v", pad, len(c.Reason), err)
		}
	}
}

func FuzzParseControl(f *testing.F) {
	for _, s := range []string{"\x01", "\x02", "\x03", "\x03why", "", "\x04", "\x03\xff"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		c, err := ParseControl(payload)
		if err != nil {
			return
		}
		if again := append([]byte{byte(c.Kind)}, c.Reason...); string(again) != string(payload) {
			t.Errorf("%x became %x", payload, again)
		}
	})
}
