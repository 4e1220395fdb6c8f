package scenario

import (
	"fmt"
	"io"
	"strings"
)

// usage returns how the command is written, its forms separated by " / ".
func (cmd *command) usage() string {
	forms := make([]string, len(cmd.forms))
	for i := range cmd.forms {
		forms[i] = cmd.forms[i].usage(cmd.name)
	}
	return strings.Join(forms, " / ")
}

func (fm *form) usage(name string) string {
	words := []string{name}
	for _, fl := range fm.flags {
		s := "-" + fl.name
		if fl.kind != nil {
			s += " " + fl.value
		}
		if !fl.must {
			s = "[" + s + "]"
		}
		words = append(words, s)
	}
	for _, a := range fm.args {
		s := a.name
		if a.repeat {
			s += "…"
		}
		if a.optional {
			s = "[" + s + "]"
		}
		words = append(words, s)
	}
	return strings.Join(words, " ")
}

// Help writes the full description of the named commands, or without names a list
// of all. An unknown name is an error.
func (r *Registry) Help(w io.Writer, names ...string) error {
	if len(names) == 0 {
		_, err := io.WriteString(w, r.list(func(string) bool { return true }))
		return err
	}
	for i, name := range names {
		cmd := r.commands[name]
		if cmd == nil {
			return r.unknown(name)
		}
		if i > 0 {
			if _, err := fmt.Fprintln(w); err != nil {
				return err
			}
		}
		if _, err := io.WriteString(w, cmd.help()); err != nil {
			return err
		}
	}
	return nil
}

// list returns one line for each command that is offered, by areas.
func (r *Registry) list(offered func(name string) bool) string {
	width := 0
	for _, name := range r.names {
		width = max(width, len(name))
	}
	var b strings.Builder
	for _, a := range r.areas {
		fmt.Fprintf(&b, "%s:\n", a.title)
		for _, name := range a.names {
			if offered(name) {
				fmt.Fprintf(&b, "  %-*s  %s\n", width, name, r.commands[name].summary)
			}
		}
		b.WriteByte('\n')
	}
	b.WriteString("`help COMMAND` says more.\n")
	return b.String()
}

func (cmd *command) help() string {
	var b strings.Builder
	for i := range cmd.forms {
		fmt.Fprintf(&b, "%s\n", cmd.forms[i].usage(cmd.name))
	}
	fmt.Fprintf(&b, "    %s\n", cmd.summary)
	seen := map[string]bool{}
	for _, fm := range cmd.forms {
		for _, fl := range fm.flags {
			if seen[fl.name] {
				continue
			}
			seen[fl.name] = true
			fmt.Fprintf(&b, "    -%-10s %s\n", strings.TrimSpace(fl.name+" "+fl.value), fl.summary)
		}
	}
	if s := cmd.prefixText(); s != "" {
		fmt.Fprintf(&b, "    Takes %s.\n", s)
	}
	if cmd.detail != "" {
		for _, paragraph := range strings.Split(cmd.detail, "\n") {
			wrap(&b, paragraph, 76, "    ")
		}
	}
	return b.String()
}

// prefixText says what can stand around the command: "'!', '?' and '&'".
func (cmd *command) prefixText() string {
	var all []string
	for _, p := range cmd.prefixes {
		all = append(all, "'"+string(p)+"'")
	}
	if cmd.background {
		all = append(all, "'&'")
	}
	if len(all) < 2 {
		return strings.Join(all, "")
	}
	return strings.Join(all[:len(all)-1], ", ") + " and " + all[len(all)-1]
}

// wrap writes text in lines of at most width bytes after the indent, where the
// words allow it.
func wrap(b *strings.Builder, text string, width int, indent string) {
	line := ""
	for _, w := range strings.Fields(text) {
		if line != "" && len(line)+1+len(w) > width {
			fmt.Fprintf(b, "%s%s\n", indent, line)
			line = ""
		}
		line = strings.TrimSpace(line + " " + w)
	}
	if line != "" {
		fmt.Fprintf(b, "%s%s\n", indent, line)
	}
}
