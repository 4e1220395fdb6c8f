package console

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Clean returns s safe to show on a terminal: escapes, control characters,
// bytes that are not UTF-8 and characters that turn or hide text are written
// as \x1b, \u202e and so on. A tab stays. Text without any comes back as it is.
func Clean(s string) string {
	i := 0
	for i < len(s) {
		r, size := utf8.DecodeRuneInString(s[i:])
		if !shown(r, size) {
			break
		}
		i += size
	}
	if i == len(s) {
		return s
	}
	var b strings.Builder
	b.WriteString(s[:i])
	for i < len(s) {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case shown(r, size):
			b.WriteRune(r)
		case size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case r > 0xffff:
			fmt.Fprintf(&b, `\U%08x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
		i += size
	}
	return b.String()
}

// shown reports whether a character goes to a terminal as it is.
func shown(r rune, size int) bool {
	if r == utf8.RuneError && size <= 1 {
		return false
	}
	return r == '\t' || unicode.IsPrint(r)
}
