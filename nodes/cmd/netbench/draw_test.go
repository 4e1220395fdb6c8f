package netbench

import (
	"bytes"
	"io"
	"os"
	"regexp"
	"testing"
)

func TestDraw(t *testing.T) {
	for what, form := range map[string]string{
		"random": `^[0-9a-f]{64}\n$`, "ephemeral": `^[0-9a-f]{64}\n$`, "sequence": `^[0-9]+\n$`,
	} {
		if what == "sequence" && os.Geteuid() != 0 {
			t.Log("the kernel tells sequence numbers to root only")
			continue
		}
		seen := map[string]bool{}
		for range 3 {
			var out, errs bytes.Buffer
			if status := Main(t.Context(), []string{"draw", "-what", what}, &out, &errs); status != 0 {
				t.Fatalf("%s: status %d, %s", what, status, errs.String())
			}
			if !regexp.MustCompile(form).MatchString(out.String()) || seen[out.String()] {
				t.Errorf("%s: %q after %v", what, out.String(), seen)
			}
			seen[out.String()] = true
		}
	}
	if status := Main(t.Context(), []string{"draw", "-what", "lots"}, io.Discard, io.Discard); status != 2 {
		t.Errorf("an unknown thing: status %d", status)
	}
}
