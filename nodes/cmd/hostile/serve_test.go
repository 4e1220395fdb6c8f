package hostile

import (
	"io"
	"strings"
	"testing"
	"time"

	"dsoftbus-rig/nodes/remotefs"
)

// What a program of the victim reads is whole, and its close is refused.
func TestServe(t *testing.T) {
	v, config := startVictim(t, "node-b", "node-a"), identity(t)
	type result struct {
		status         int
		stdout, stderr string
	}
	served := make(chan result, 1)
	go func() {
		var r result
		r.status, r.stdout, r.stderr = hostile(t, "-config", config, "-peer", v.peer, "serve")
		served <- r
	}()
	c, err := remotefs.Dial(t.Context(), v.socket, "node-a", remotefs.Options{Wait: time.Minute, Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	f, err := c.Open(t.Context(), "pkg:/any/file")
	if err != nil {
		t.Fatal(err)
	}
	if data, err := io.ReadAll(f); string(data) != "served\n" || err != nil {
		t.Errorf("read %q, %v", data, err)
	}
	if err := f.Close(); err == nil || !strings.Contains(err.Error(), "CLOSE pkg:/any/file: BADF") {
		t.Errorf("closed with %v", err)
	}
	r := <-served
	if r.status != 0 || !strings.HasPrefix(r.stdout, "serve ok requests=") ||
		!strings.Contains(r.stdout, " refused=CLOSE\n") {
		t.Errorf("ended with %d, %q, %q", r.status, r.stdout, r.stderr)
	}
}

func TestServeEnds(t *testing.T) {
	v, config := startVictim(t, "node-b", "node-a"), identity(t)
	status, stdout, stderr := hostile(t, "-config", config, "-peer", v.peer, "serve", "-for", "100ms")
	if status != 1 || stdout != "" || !strings.Contains(stderr, "nobody has asked to close a file within 100ms") {
		t.Errorf("ended with %d, %q, %q", status, stdout, stderr)
	}
	status, _, stderr = hostile(t, "-config", config, "-peer", v.peer, "serve", "-for", "0s")
	if status != 2 || !strings.Contains(stderr, "-for 0s is not above 0") {
		t.Errorf("ended with %d, %q", status, stderr)
	}
}
