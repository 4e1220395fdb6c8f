package scenario

import (
	"slices"
	"strings"
)

// complete returns what the word at byte pos of a line can become, sorted, and the
// byte where that word starts.
func (r *Registry) complete(sc *scope, line string, pos int) (start int, out []string) {
	line = line[:max(0, min(pos, len(line)))]
	words, _ := lex(line)
	current := word{start: len(line), end: len(line)}
	if n := len(words); n > 0 && words[n-1].end == len(line) {
		current, words = words[n-1], words[:n-1]
	} else if commented(line, words) {
		return len(line), nil
	}
	typed := line[current.start:]
	for _, w := range r.candidates(sc, words, current, typed) {
		if strings.HasPrefix(w, typed) {
			out = append(out, w)
		}
	}
	slices.Sort(out)
	return current.start, slices.Compact(out)
}

// commented reports whether a comment begins behind the words.
func commented(line string, words []word) bool {
	end := 0
	if n := len(words); n > 0 {
		end = words[n-1].end
	}
	return strings.Contains(line[end:], "#")
}

// candidates returns all that can stand in place of current, behind words, as it is
// typed.
func (r *Registry) candidates(sc *scope, words []word, current word, typed string) []string {
	if i := strings.LastIndexByte(typed, '$'); i >= 0 && !strings.Contains(typed, "'") {
		var out []string
		for _, name := range sc.variables() {
			out = append(out, typed[:i]+"$"+name)
		}
		return out
	}
	var st Statement
	for len(words) > 0 {
		text, bare := words[0].bare()
		if !bare {
			return nil
		}
		words = words[1:]
		if _, taken := st.prefix(text); !taken {
			st.name = text
			break
		}
	}
	if st.name == "" {
		if strings.HasPrefix(typed, "[") {
			var out []string
			for _, tag := range conditionTags() {
				out = append(out, "["+tag+"]", "[!"+tag+"]")
			}
			return out
		}
		return r.Names()
	}
	cmd := r.commands[st.name]
	if cmd == nil {
		return nil
	}
	var out []string
	for _, s := range cmd.follow(sc, words, typed) {
		if !strings.HasPrefix(s, "-") {
			s = quote(s)
		}
		out = append(out, s)
	}
	return out
}

// follow returns what a command can have behind these arguments.
func (cmd *command) follow(sc *scope, words []word, typed string) []string {
	for len(words) > 0 {
		name, value, isFlag := flagName(words[0])
		if !isFlag {
			break
		}
		words = words[1:]
		fl := cmd.flag(name)
		if fl == nil || fl.kind == nil || value != nil {
			continue
		}
		if len(words) == 0 {
			return offers(sc, fl.kind)
		}
		words = words[1:]
	}
	if len(words) == 0 && strings.HasPrefix(typed, "-") {
		return cmd.flagNames()
	}
	var out []string
	for i := range cmd.forms {
		if a := cmd.forms[i].at(len(words), len(words)+1); a != nil {
			out = append(out, offers(sc, a.kind)...)
		}
		// Behind an argument that repeats there may be another one.
		if n := len(cmd.forms[i].args); n > 1 && cmd.forms[i].args[n-2].repeat && len(words) > 0 {
			out = append(out, offers(sc, cmd.forms[i].args[n-2].kind)...)
		}
	}
	return out
}

func offers(sc *scope, kd *kind) []string {
	if kd.words == nil {
		return nil
	}
	return kd.words(sc)
}
