package prompt

import (
	"fmt"
	"strings"
)

// A search looks for an earlier line, as Ctrl-R does in shells: each key that
// is typed narrows it, Ctrl-R again goes further back, Enter runs what was
// found, any other key edits it, and Ctrl-G gives the line of before back.
//
// The editor has no such mode. So while a search goes on, the keys that belong
// to it reach the editor as runes that it passes on to its callback (see keys),
// and what the search shows is the editor's own line.
type search struct {
	history *History

	before string // the line as it was
	query  []byte
	at     int    // the place in the history of what was found, 0 the newest; -1: nothing was
	found  string // "" when nothing was
}

// Keys of a search, beside those that are typed into it. Ctrl-R begins it and
// goes on.
const (
	keySearch    = 0x12 // Ctrl-R
	keyCancel    = 0x07 // Ctrl-G
	keyBackspace = 0x7f
	keyCtrlH     = 0x08
	keyDone      = 0x00 // what was found is the line now
)

// firstSearchRune begins 256 runes of the private use area, one for each byte
// that is typed into a search.
const firstSearchRune = 0xe000

// searchKey returns the byte of a search that a rune stands for.
func searchKey(r rune) (byte, bool) {
	if r < firstSearchRune || r > firstSearchRune+0xff {
		return 0, false
	}
	return byte(r - firstSearchRune), true
}

// keys turns bytes that are typed into those that the editor gets.
type keys struct{ searching bool }

// longestKey is how many bytes one that is typed can become.
const longestKey = 4

// append appends what a byte becomes.
func (k *keys) append(b []byte, key byte) []byte {
	mark := func(key byte) []byte { return append(b, string(rune(firstSearchRune)+rune(key))...) }
	switch {
	case key == keySearch:
		k.searching = true
		return mark(key)
	case !k.searching:
		return append(b, key)
	case key >= ' ', key == keyCtrlH:
		return mark(key)
	case key == keyCancel:
		k.searching = false
		return mark(key)
	}
	k.searching = false
	return append(mark(keyDone), key)
}

// key takes in a key and returns the editor's new line, with the cursor's
// place.
func (s *search) key(key byte, line string) (string, int) {
	switch key {
	case keySearch:
		if s.query == nil {
			s.before, s.query, s.at, s.found = line, []byte{}, -1, ""
		} else {
			s.look(s.at + 1)
		}
	case keyCancel, keyDone:
		if s.query == nil {
			return line, len(line)
		}
		s.query = nil
		if key == keyCancel || s.found == "" {
			s.found = s.before
		}
		return s.found, len(s.found)
	case keyBackspace, keyCtrlH:
		if len(s.query) > 0 {
			s.query = s.query[:len(s.query)-1]
		}
		s.at, s.found = -1, ""
		s.look(0)
	default:
		s.query = append(s.query, key)
		s.look(max(s.at, 0))
	}
	none := ""
	if s.found == "" && len(s.query) > 0 {
		none = ", nothing"
	}
	shown := fmt.Sprintf("(search: %s%s) ", s.query, none)
	return shown + s.found, len(shown) + len(s.found)
}

// look looks for the query from a place in the history on; what was found
// before stays when there is nothing further back.
func (s *search) look(from int) {
	if len(s.query) == 0 || s.history == nil {
		return
	}
	for i := from; i < s.history.Len(); i++ {
		if line := s.history.At(i); strings.Contains(line, string(s.query)) {
			s.at, s.found = i, line
			return
		}
	}
	if !strings.Contains(s.found, string(s.query)) {
		s.at, s.found = -1, ""
	}
}
