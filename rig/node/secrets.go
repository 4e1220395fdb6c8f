package node

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"dsoftbus-rig/nodes/journal"
	"dsoftbus-rig/protocol/session"
)

// A Leak is a place in the record where a secret key stands. It never has the key.
type Leak struct {
	Node string // that printed it
	File string // in the scenario's folder: "A/journal.jsonl"
	Line int    // of the file, from 1
	Key  string // whose: "the private key of node B"
	Form string // how it is written: "hexadecimal"
}

func (l Leak) String() string {
	return fmt.Sprintf("%s:%d has %s (%s)", l.File, l.Line, l.Key, l.Form)
}

// Leaks looks for the private keys of all nodes, and for the keys of their sessions
// that are in the file keyLog, if that exists, in all that the nodes have printed, as
// it is on disk. It is called when no machine runs any more. A file that cannot be
// read to its end is an error.
func (w *World) Leaks(keyLog string) ([]Leak, error) {
	var s secrets
	for _, n := range w.all() {
		s.add("the private key of node "+n.name, n.key.Private[:])
	}
	lines, err := os.ReadFile(keyLog)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("look for secret keys: %w", err)
	}
	for line := range strings.Lines(string(lines)) {
		if keys, err := session.ParseKeys(line); err == nil {
			s.add("a key of a session", keys.Dialler[:])
			s.add("a key of a session", keys.Listener[:])
		}
	}
	var leaks []Leak
	var errs []error
	for _, n := range w.all() {
		for _, file := range []struct {
			name string
			read func(io.Reader, *secrets, func(line int, found secret)) error
		}{{n.files.Console, searchText}, {n.files.QEMULog, searchText}, {n.files.Journal, searchJournal}} {
			f, err := os.Open(file.name)
			if errors.Is(err, fs.ErrNotExist) {
				continue // it was never up
			}
			if err == nil {
				err = file.read(f, &s, func(line int, found secret) {
					leaks = append(leaks, Leak{n.name, n.name + "/" + filepath.Base(file.name), line, found.key, found.form})
				})
				err = errors.Join(err, f.Close())
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("look for secret keys in what node %s printed: %w", n.name, err))
			}
		}
	}
	return leaks, errors.Join(errs...)
}

// A secret is one form of a key.
type secret struct {
	key, form string
	text      []byte
}

// secrets are all forms of all keys. They are searched for in one pass: the first two
// bytes of a form are looked up at each place.
type secrets struct {
	forms  []secret
	starts map[uint16][]int // first two bytes -> indices of forms
	any    [1 << 16]bool    // whether starts has an entry
	most   int              // bytes of the longest form
}

// add adds a key in the forms in which programs print bytes.
func (s *secrets) add(name string, key []byte) {
	lower := hex.EncodeToString(key)
	numbers := strings.Trim(fmt.Sprint(key), "[]")
	s.form(name, "raw bytes", string(key))
	s.form(name, "hexadecimal", lower)
	s.form(name, "hexadecimal", strings.ToUpper(lower))
	s.form(name, "hexadecimal", fmt.Sprintf("% x", key))
	s.form(name, "decimal", numbers)
	s.form(name, "decimal", strings.ReplaceAll(numbers, " ", ","))
	s.form(name, "decimal", strings.ReplaceAll(numbers, " ", ", "))
	for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
		// In a longer text the key may begin at any byte of three. Characters that
		// have bits of what is around it are left out.
		for before := range 3 {
			text := encoding.EncodeToString(append(make([]byte, before), key...))
			s.form(name, "base64", text[(before*8+5)/6:(before+len(key))*8/6])
		}
	}
}

func (s *secrets) form(key, form, text string) {
	if s.starts == nil {
		s.starts = map[uint16][]int{}
	}
	start := binary.LittleEndian.Uint16([]byte(text))
	s.starts[start] = append(s.starts[start], len(s.forms))
	s.any[start] = true
	s.forms = append(s.forms, secret{key, form, []byte(text)})
	s.most = max(s.most, len(text))
}

// find calls found for each secret in data that ends behind the first old bytes, which
// were looked at before.
func (s *secrets) find(data []byte, old int, found func(at int, what secret)) {
	for i := 0; i+1 < len(data); i++ {
		start := uint16(data[i]) | uint16(data[i+1])<<8
		if !s.any[start] {
			continue
		}
		for _, k := range s.starts[start] {
			if form := s.forms[k]; i+len(form.text) > old && bytes.HasPrefix(data[i:], form.text) {
				found(i, form)
			}
		}
	}
}

// A search goes through one text that comes in pieces.
type search struct {
	secrets *secrets
	rest    []byte // the end of what came, in which a secret may begin
}

// next looks at the next piece.
func (s *search) next(piece []byte, found func(at int, what secret)) {
	old := len(s.rest)
	s.rest = append(s.rest, piece...)
	s.secrets.find(s.rest, old, func(at int, what secret) { found(at-old, what) })
	if over := len(s.rest) - (s.secrets.most - 1); over > 0 {
		s.rest = append(s.rest[:0], s.rest[over:]...)
	}
}

// searchText searches a file as it is.
func searchText(r io.Reader, s *secrets, found func(line int, what secret)) error {
	look, line, buf := search{secrets: s}, 1, make([]byte, 256<<10)
	for {
		n, err := r.Read(buf)
		piece := buf[:n]
		look.next(piece, func(at int, what secret) { found(line+bytes.Count(piece[:max(at, 0)], []byte{'\n'}), what) })
		line += bytes.Count(piece, []byte{'\n'})
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// searchJournal searches what each program printed on each of its streams, whole,
// whatever pieces it came in.
func searchJournal(r io.Reader, s *secrets, found func(line int, what secret)) error {
	looks := map[string]*search{}
	in := bufio.NewReaderSize(r, 64<<10)
	for line := 1; ; line++ {
		data, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) && len(data) == 0 {
			return nil
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		e, err := journal.Decode(data)
		if err != nil {
			return fmt.Errorf("line %d: %w", line, err)
		}
		key := e.Unit + "\x00" + e.Stream
		look := looks[key]
		if look == nil {
			look = &search{secrets: s}
			looks[key] = look
		}
		text := []byte(e.Line())
		if !e.More {
			text = append(text, '\n')
		}
		look.next(text, func(_ int, what secret) { found(line, what) })
	}
}
