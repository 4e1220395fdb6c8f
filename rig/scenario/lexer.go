package scenario

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

// A part is a piece of a word: text, or the name of a variable whose value goes
// there.
type part struct {
	text     string
	quoted   bool // was in single quotes
	variable bool // text is a variable's name
}

// A word is one word of a statement, not expanded yet.
type word struct {
	start, end int // bytes of the line it was read from, quotes included
	parts      []part
}

// constant returns the word's text when no variable is in it.
func (w word) constant() (string, bool) {
	var b strings.Builder
	for _, p := range w.parts {
		if p.variable {
			return "", false
		}
		b.WriteString(p.text)
	}
	return b.String(), true
}

// bare returns the word's text when nothing in it is quoted and no variable is in
// it: only such a word can be a prefix, a condition, a command or an ampersand.
func (w word) bare() (string, bool) {
	if len(w.parts) == 1 && !w.parts[0].quoted && !w.parts[0].variable {
		return w.parts[0].text, true
	}
	return "", false
}

// expand returns the word with the values of its variables in place. Every value
// passes through quote first.
func (w word) expand(value func(name string) string, quote func(string) string) string {
	var b strings.Builder
	for _, p := range w.parts {
		if p.variable {
			b.WriteString(quote(value(p.text)))
		} else {
			b.WriteString(p.text)
		}
	}
	return b.String()
}

// lex splits a line into words. A '#' outside of quotes starts a comment. With a
// fault it returns the words up to there, the last of them as far as it goes.
func lex(line string) ([]word, *fault) {
	if i := strings.IndexAny(line, "\x00\n"); i >= 0 {
		if line[i] == 0 {
			return nil, faultf("remove it: a scenario is a text file", "NUL byte in the line")
		}
		return nil, faultf("give one line at a time", "line break inside of a line")
	}
	if !utf8.ValidString(line) {
		return nil, faultf("save the file as UTF-8", "the line is not UTF-8")
	}
	var words []word
	i := 0
	for {
		for i < len(line) && isSpace(line[i]) {
			i++
		}
		if i == len(line) || line[i] == '#' {
			return words, nil
		}
		w, f := lexWord(line, i)
		words = append(words, w)
		if f != nil {
			return words, f
		}
		i = w.end
	}
}

// isSpace reports what separates words. A carriage return is one of them, so a
// line that ends in CRLF reads like one that ends in LF.
func isSpace(c byte) bool {
	return c == ' ' || c == '\t' || c == '\r'
}

func lexWord(line string, start int) (word, *fault) {
	w := word{start: start, end: start}
	for w.end < len(line) && !isSpace(line[w.end]) && line[w.end] != '#' {
		if line[w.end] == '\'' {
			text, end, closed := lexQuoted(line, w.end+1)
			w.parts = append(w.parts, part{text: text, quoted: true})
			w.end = end
			if !closed {
				return w, faultf("close it; a quote inside of quotes is written twice: 'it''s'", "unterminated quote")
			}
			continue
		}
		text := line[w.end:]
		if n := strings.IndexAny(text, " \t\r'#"); n >= 0 {
			text = text[:n]
		}
		parts, f := splitVariables(text)
		w.parts = append(w.parts, parts...)
		w.end += len(text)
		if f != nil {
			return w, f
		}
	}
	return w, nil
}

// lexQuoted reads from behind an opening quote to behind the closing one.
func lexQuoted(line string, i int) (text string, end int, closed bool) {
	var b strings.Builder
	for i < len(line) {
		if line[i] != '\'' {
			b.WriteByte(line[i])
			i++
			continue
		}
		if i+1 == len(line) || line[i+1] != '\'' {
			return b.String(), i + 1, true
		}
		b.WriteByte('\'')
		i += 2
	}
	return b.String(), i, false
}

var (
	variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*`)
	bracedName   = regexp.MustCompile(`^\{([A-Za-z_][A-Za-z0-9_]*)\}`)
)

// splitVariables splits unquoted text at its $NAME and ${NAME}. A '$' in front of
// anything else stands for itself, as at the end of a regular expression.
func splitVariables(text string) ([]part, *fault) {
	var parts []part
	literal := 0
	for i := 0; i < len(text); i++ {
		if text[i] != '$' {
			continue
		}
		rest := text[i+1:]
		name, length := "", 0
		if m := bracedName.FindStringSubmatch(rest); m != nil {
			name, length = m[1], len(m[0])
		} else if strings.HasPrefix(rest, "{") {
			return append(parts, part{text: text[literal:]}),
				faultf("write ${NAME}, or quote the word if no variable is meant", "bad variable reference %q", text[i:])
		} else if name = variableName.FindString(rest); name == "" {
			continue
		} else {
			length = len(name)
		}
		if literal < i {
			parts = append(parts, part{text: text[literal:i]})
		}
		parts = append(parts, part{text: name, variable: true})
		i += length
		literal = i + 1
	}
	if literal < len(text) {
		parts = append(parts, part{text: text[literal:]})
	}
	return parts, nil
}

// quote returns s as a word that is read back as s.
func quote(s string) string {
	bare := s != "" && !strings.ContainsAny(s, " \t\r'#$")
	if bare {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", "''") + "'"
}
