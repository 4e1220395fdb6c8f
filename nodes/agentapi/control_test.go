package agentapi

import (
	"strings"
	"testing"
)

func TestControlAddress(t *testing.T) {
	const form = "52:54:00:01:00:0a,10.43.0.2/30"
	a, err := ParseControlAddress(form)
	if err != nil {
		t.Fatal(err)
	}
	if a.String() != form {
		t.Errorf("it comes back as %s", a)
	}
	if got := a.Endpoint().String(); got != "10.43.0.2:7" {
		t.Errorf("the agent listens at %s", got)
	}
	for bad, want := range map[string]string{
		"":                              "is not a MAC and an address",
		"52:54:00:01:00:0a":             "is not a MAC and an address",
		"52:54,10.43.0.2/30":            "invalid MAC",
		"52:54:00:01:00:0a,10.43.0.2":   "no '/'",
		"52:54:00:01:00:0a,fd00::2/126": "is no IPv4 address",
	} {
		if _, err := ParseControlAddress(bad); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", bad, err, want)
		}
	}
}
