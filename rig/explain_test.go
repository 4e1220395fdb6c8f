package main

import (
	"strings"
	"testing"

	"dsoftbus-rig/rig/record"
)

const served = `
-- B/packages/system@1.0.0/build.prop --
ro.nexus.build=dev
`

// Things are broken on purpose, and each is named by what it is, where, and at which step.
func TestWhatBrokeIsNamed(t *testing.T) {
	const up = "up\nexec A pkgfs -peer node-b cat pkg:/system/build.prop\n"
	for name, c := range map[string]struct {
		script   string
		reason   record.Reason
		node     string
		line     int
		evidence string // in it
	}{
		"cable": {up + "link B down\nmarker A 'session lost node-b'\nexec A pkgfs -peer node-b -wait 1s cat pkg:/system/build.prop\n",
			record.SessionNoSynAck, "A", 5, "in force: link B down"},
		"cable, seen by a self-test": {up + "link B down\nmarker A 'session lost node-b'\nexec A selftest-client remote-pkgfs -peer node-b -wait 1s pkg:/system/build.prop\n",
			record.SessionNoSynAck, "A", 5, "in force: link B down"},
		"frames lost one way": {"block A B\nup\nmarker -within 2s A 'cross-vm session ok node-b'\n", record.SessionNoSyn, "A", 3, "B has not answered: the questions did not arrive"},
		"key": {up + "stop B dsoftbusd\nudp -hex -from B A:37020 4e58534201066e6f64652d628707111111111111111111111111111111111111111111111111111111111111111101097061636b6167656673\n" +
			"exec A pkgfs -peer node-b -wait 1s cat pkg:/system/build.prop\n",
			record.SessionDenied, "A", 5, "identity mismatch peer=node-b"},
		"daemon killed": {up + "kill B dsoftbusd\nexec A pkgfs -peer node-b -wait 1s cat pkg:/system/build.prop\n",
			record.SessionReset, "A", 4, "nobody listens there"},
		"SYN-ACK lost": {"block B A tcp 34567\nup\nmarker -within 2s A 'cross-vm session ok node-b'\n",
			record.SessionNoSynAck, "A", 3, "the answers did not arrive"},
		"announces lost": {"block B A udp 37020\nup\nmarker -within 2s A 'cross-vm session ok node-b'\n",
			record.DiscoveryNoAnnounce, "A", 3, "did not arrive, or were ignored"},
		"wrong content": {up + "cp stdout came\nexec B cp /etc/hosts /packages/system@1.0.0/build.prop\nexec A pkgfs -peer node-b cat pkg:/system/build.prop\ncmp came stdout\n",
			record.ContentMismatch, "A", 6, ""},
		"slow link": {"up\nexec B dd if=/dev/urandom of=/packages/system@1.0.0/big bs=65536 count=8\nlink B rate=4mbit\nbudget read 100ms\n" +
			"exec -within 60s A pkgfs -peer node-b sum pkg:/system/big\nbudget -end read\n",
			record.OverBudget, "", 6, "in force: link B rate=4000000bit"},
		"kernel panic": {up + "exec B gosh -c 'echo c > /proc/sysrq-trigger'\n", record.KernelPanic, "B", 3, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // most of the time they wait
			r := startRun(t, c.script+served)
			f := r.failure(record.ExitFailed, record.Failed, c.reason, c.node)
			if f.Line != c.line || !strings.Contains(strings.Join(f.Evidence, "\n"), c.evidence) {
				t.Errorf("line %d, evidence %q; want %d, %q", f.Line, f.Evidence, c.line, c.evidence)
			}
		})
	}
}
