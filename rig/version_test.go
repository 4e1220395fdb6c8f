package main

import (
	build "runtime/debug"
	"strings"
	"testing"
)

func TestWriteVersion(t *testing.T) {
	set := func(keys ...string) *build.BuildInfo {
		info := &build.BuildInfo{Main: build.Module{Version: "v1.2.3"}}
		for i := 0; i < len(keys); i += 2 {
			info.Settings = append(info.Settings, build.BuildSetting{Key: keys[i], Value: keys[i+1]})
		}
		return info
	}
	for want, info := range map[string]*build.BuildInfo{
		"rig (devel), commit unknown (built without version control)\n":            nil,
		"rig v1.2.3, commit unknown (built without version control)\n":             set(),
		"rig v1.2.3, commit abc of 2026-12-01T00:00:00Z\n":                         set("vcs.revision", "abc", "vcs.time", "2026-12-01T00:00:00Z", "vcs.modified", "false"),
		"rig v1.2.3, commit abc of 2026-12-01T00:00:00Z, with changes beyond it\n": set("vcs.revision", "abc", "vcs.time", "2026-12-01T00:00:00Z", "vcs.modified", "true"),
	} {
		var b strings.Builder
		writeVersion(&b, info, "")
		if got := b.String(); !strings.HasPrefix(got, want+"go1.") {
			t.Errorf("%+v: %q, want %q", info, got, want)
		}
	}
	for from, want := range map[string]string{
		"abc 2026-12-01T00:00:00Z":          "rig v1.2.3, commit abc of 2026-12-01T00:00:00Z\n",
		"abc 2026-12-01T00:00:00Z modified": "rig v1.2.3, commit abc of 2026-12-01T00:00:00Z, with changes beyond it\n",
	} {
		var b strings.Builder
		writeVersion(&b, set("vcs.revision", "other"), from)
		if got := b.String(); !strings.HasPrefix(got, want) {
			t.Errorf("built from %q: %q, want %q", from, got, want)
		}
	}
}
