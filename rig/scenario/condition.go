package scenario

import (
	"slices"
	"strings"
)

// A Host is what conditions ask about.
type Host struct {
	Accel string // "kvm" or "tcg"
	Root  bool   // the rig runs as root
	Arch  string // the machines', as in GOARCH: "amd64"
}

// A condition is what can stand in brackets in front of a command.
type condition struct {
	name     string
	summary  string
	suffixes []string // what may stand behind "name:"; nil when the name stands alone
	holds    func(h Host, suffix string) bool
}

var conditions = []condition{
	{name: "kvm", summary: "machines run on hardware virtualization", holds: func(h Host, _ string) bool { return h.Accel == "kvm" }},
	{name: "tcg", summary: "machines run under software emulation", holds: func(h Host, _ string) bool { return h.Accel == "tcg" }},
	{name: "root", summary: "the rig runs as root", holds: func(h Host, _ string) bool { return h.Root }},
	{
		name: "arch", summary: "machines have this processor architecture", suffixes: []string{"amd64", "arm64", "riscv64"},
		holds: func(h Host, suffix string) bool { return h.Arch == suffix },
	},
}

// conditionTags returns every condition as it is written, without brackets.
func conditionTags() []string {
	var out []string
	for _, c := range conditions {
		if c.suffixes == nil {
			out = append(out, c.name)
		}
		for _, suffix := range c.suffixes {
			out = append(out, c.name+":"+suffix)
		}
	}
	return out
}

// findCondition returns the condition of a tag and what stands behind its colon.
func findCondition(tag string) (*condition, string, *fault) {
	name, suffix, colon := strings.Cut(tag, ":")
	for i := range conditions {
		c := &conditions[i]
		if c.name != name || colon != (c.suffixes != nil) || (colon && !slices.Contains(c.suffixes, suffix)) {
			continue
		}
		return c, suffix, nil
	}
	next := didYouMean(tag, conditionTags())
	if next == "" {
		next = "the conditions are [" + strings.Join(conditionTags(), "], [") + "]"
	}
	return nil, "", faultf(next, "unknown condition [%s]", tag)
}
