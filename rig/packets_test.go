package main

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"dsoftbus-rig/rig/decode"
	"dsoftbus-rig/rig/record"
)

// readThenFail reads a package file of node B, and then asks for one that is not there.
const readThenFail = `# A read, and a failure.
up
exec A pkgfs -peer node-b cat pkg:/system/build.prop
exec A pkgfs -peer node-b cat pkg:/system/nothing

-- B/packages/system@1.0.0/build.prop --
ro.nexus.build=dev
`

// artifacts gives every file of a record with its content, by its path.
func artifacts(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	root, err := filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]byte{}
	err = filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			all[name], err = os.ReadFile(name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// decoded runs rig decode.
func decoded(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), rigBinary, append([]string{"decode"}, args...)...)
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("rig decode: %v\n%s", err, out)
	}
	return string(out)
}

// inOrder checks that lines come that match, one behind the other.
func inOrder(t *testing.T, text string, patterns ...string) {
	t.Helper()
	lines := strings.Split(text, "\n")
	for _, p := range patterns {
		for !regexp.MustCompile(p).MatchString(lines[0]) {
			if lines = lines[1:]; len(lines) == 0 {
				t.Fatalf("no line matches %q, behind those in front of it, in\n%s", p, text)
			}
		}
	}
}

// A scenario that fails keeps what crossed its network, and it can be read.
func TestFailureKeepsItsPackets(t *testing.T) {
	r := startRun(t, readThenFail, "-keylog")
	f := r.failure(record.ExitFailed, record.Failed, record.ExecStatus, "A")
	capture := r.latest("test", record.CaptureFile)
	text := decoded(t, "-runs", r.dir)
	inOrder(t, text,
		`-- .* line 2: up$`, `A -> all +announce node-a port=34567 key=[0-9a-f]{8}… services=packagefs$`,
		`A -> B +SYN [0-9]+ -> 34567$`, `B -> A +SYN-ACK 34567 -> [0-9]+$`,
		`A -> B +handshake 1, 48 bytes$`, `B -> A +handshake 2, 48 bytes$`, `A -> B +handshake 3, 70 bytes, to node-b$`,
		`A -> B +STAT system/build.prop$`, `B -> A +OPEN system/build.prop -> OK handle=1$`,
		`A -> B +READ h=1 off=0 len=32768$`, `B -> A +READ h=1 off=0 len=32768 -> OK n=19$`, `B -> A +CLOSE h=1 -> OK$`,
		`-- .* line 4: exec A pkgfs`, `B -> A +OPEN system/nothing -> NOT_FOUND$`, `-- .* end: failed: `, `^[0-9]+ frames$`)
	inOrder(t, text, `B -> all +announce node-b `)
	inOrder(t, text, `B -> A +STAT system/build.prop -> OK size=19$`)
	if strings.Contains(text, "MALFORMED") {
		t.Errorf("something is malformed:\n%s", text)
	}

	// The same as data, without keys.
	c, err := decode.File(capture, nil)
	if err != nil {
		t.Fatal(err)
	}
	if n := c.Count("A", "B"); n.SYN != 1 || n.Records < 6 {
		t.Errorf("A to B: %+v", n)
	}
	if n := c.Count("B", "A"); n.SYNACK != 1 || n.RST != 0 {
		t.Errorf("B to A: %+v", n)
	}
	if last := c.Packets[len(c.Packets)-1]; last.Kind != decode.Note || !strings.Contains(last.Text, "end: failed: "+f.Message[:20]) {
		t.Errorf("the last packet is %+v", last)
	}

	// The keys are where they were asked for, for their owner, and nowhere else.
	file := r.latest("test", record.KeysFile)
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("%s has the mode %v", file, info.Mode())
	}
	keys, err := decode.KeyLog(file)
	if err != nil || len(keys) != 1 {
		t.Fatalf("%d sessions, %v", len(keys), err)
	}
	files := artifacts(t, r.latest())
	files["stdout"], files["stderr"] = r.output.Bytes(), r.stderr.Bytes()
	for name, data := range files {
		if filepath.Base(name) == record.KeysFile {
			continue
		}
		for _, key := range [][]byte{keys[0].Dialler[:], keys[0].Listener[:]} {
			if bytes.Contains(data, key) || bytes.Contains(bytes.ToLower(data), []byte(hex.EncodeToString(key))) || bytes.Contains(data, fmt.Append(nil, key)) {
				t.Errorf("%s has a key of the session", name)
			}
		}
	}
}

// Without the option there are no keys: not on the nodes, and not in a record, in which nothing looks like one.
func TestNoKeysUnlessAsked(t *testing.T) {
	r := startRun(t, `# A read.
up
exec A pkgfs -peer node-b cat pkg:/system/build.prop
! exec A cat /run/dsoftbusd.keys
! exec B cat /run/dsoftbusd.keys

-- B/packages/system@1.0.0/build.prop --
ro.nexus.build=dev
`, "-capture", "always")
	if status := r.end(); status != record.ExitGreen {
		t.Fatalf("exit status %d", status)
	}
	files := artifacts(t, r.latest())
	if len(files) < 8 {
		t.Errorf("only %d files", len(files))
	}
	files["stdout"], files["stderr"] = r.output.Bytes(), r.stderr.Bytes()
	key := regexp.MustCompile(`\b[0-9a-fA-F]{64}\b`)
	for name, data := range files {
		if bytes.Contains(data, []byte("DSOFTBUS_SESSION")) || filepath.Base(name) == record.KeysFile {
			t.Errorf("%s is a key log", name)
		}
		// Images are named by what they are made of.
		for _, found := range key.FindAllIndex(data, -1) {
			if filepath.Base(name) != "qemu.cmd" {
				t.Errorf("%s has what looks like a key at byte %d", name, found[0])
			}
		}
	}
	text := decoded(t, r.latest("test"))
	inOrder(t, text, `handshake 3, 70 bytes$`, `record, 21 bytes$`)
	if strings.Contains(text, "STAT") {
		t.Errorf("requests are shown without keys:\n%s", text)
	}
}

// A green scenario has no packets unless the run was told to keep them, and a red one none if it was told to make none.
func TestGreenLosesItsPackets(t *testing.T) {
	for _, c := range []struct {
		script, keep string
		status       int
		kept         bool
	}{
		{"# Green.\nup -only A\n", "fail", record.ExitGreen, false},
		{"# Green.\nup -only A\n", "always", record.ExitGreen, true},
		{"# Red.\nup -only A\nexec A false\n", "never", record.ExitFailed, false},
	} {
		r := startRun(t, c.script, "-capture", c.keep)
		if status := r.end(); status != c.status {
			t.Fatalf("exit status %d", status)
		}
		if _, err := os.Stat(r.latest("test", record.CaptureFile)); (err == nil) != c.kept {
			t.Errorf("-capture %s: %v", c.keep, err)
		}
	}
}

// What is beyond the limit is a warning of the scenario.
func TestPacketsHaveALimit(t *testing.T) {
	r := startRun(t, `# Much is read.
up
exec B mkdir -p /packages/big@1.0.0
exec B dd if=/dev/urandom of=/packages/big@1.0.0/f bs=65536 count=48
exec A pkgfs -peer node-b sum pkg:/big/f
`, "-capture", "always", "-capture-size", "1")
	if status := r.end(); status != record.ExitGreen {
		t.Fatalf("exit status %d", status)
	}
	info, err := os.Stat(r.latest("test", record.CaptureFile))
	if err != nil || info.Size() > 1<<20 {
		t.Fatalf("%v, %v", info, err)
	}
	warnings := r.only().Warnings
	if len(warnings) != 1 || !regexp.MustCompile(`the first [0-9]+ frames: [0-9]+ more, [0-9]+ bytes, were not written at its limit of 1 MiB`).MatchString(warnings[0]) {
		t.Errorf("warnings %q", warnings)
	}
	inOrder(t, decoded(t, r.latest("test")), `A -> B +SYN `, `-- .*were not written at its limit of 1 MiB`)
}
