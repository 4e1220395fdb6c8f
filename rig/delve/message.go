package delve

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// errStrange is why a stream is passed on without being understood from here on.
var errStrange = errors.New("neither a JSON-RPC nor a DAP message")

const (
	// maxValue is how much of a value is kept, in bytes: a method's name, an id, the
	// beginning of an error text.
	maxValue = 128
	// maxHeader is how long the header of a DAP message may be; it has one line.
	maxHeader = 512
	// maxNesting is the depth up to which the places of values are known.
	maxNesting = 4
)

// wanted are the values that are kept of a message, by their place in it.
var wanted = map[string]bool{
	// JSON-RPC 1.0: requests {method, params, id}, responses {id, result, error}.
	"method": true, "id": true, "params.0.name": true, "error": true, "result.State.exited": true,
	// DAP: requests, responses, events.
	"type": true, "seq": true, "request_seq": true, "command": true, "event": true, "success": true,
}

// A reader cuts one direction of a conversation into messages, whatever their size, in
// constant memory: it keeps a few values of each.
type reader struct {
	dap    bool
	header []byte // of a DAP message, as far as it has come
	left   int    // bytes of a DAP message's body that are still to come
	json   object
}

// mid reports whether a message has begun and not ended.
func (r *reader) mid() bool { return len(r.header) > 0 || r.left > 0 || r.json.depth > 0 }

// next reads up to the end of a message. It returns how many bytes that took and, at
// the end, the message's values by their places, which are good until the next call; nil
// when b ended before it.
func (r *reader) next(b []byte) (n int, values map[string]string, err error) {
	if !r.dap {
		n, ended, err := r.json.read(b)
		if err != nil || !ended {
			return n, nil, err
		}
		return n, r.json.values, nil
	}
	for r.left == 0 && n < len(b) {
		r.header = append(r.header, b[n])
		n++
		if len(r.header) > maxHeader {
			return n, nil, fmt.Errorf("%w: a header of more than %d bytes", errStrange, maxHeader)
		}
		if bytes.HasSuffix(r.header, []byte("\r\n\r\n")) {
			if r.left, err = contentLength(string(r.header)); err != nil {
				return n, nil, err
			}
			r.header = r.header[:0]
		}
	}
	for r.left > 0 && n < len(b) {
		body := b[n:min(len(b), n+r.left)]
		used, ended, err := r.json.read(body)
		if err != nil {
			return n, nil, err
		}
		n += used
		r.left -= used
		switch {
		case ended && r.left == 0:
			return n, r.json.values, nil
		case ended || r.left == 0:
			return n, nil, fmt.Errorf("%w: its length is not that of its header", errStrange)
		}
	}
	return n, nil, nil
}

// contentLength reads the header of a DAP message.
func contentLength(header string) (int, error) {
	for line := range strings.SplitSeq(header, "\r\n") {
		name, value, _ := strings.Cut(line, ":")
		if strings.EqualFold(name, "Content-Length") {
			n, err := strconv.Atoi(strings.TrimSpace(value))
			if err == nil && n > 0 {
				return n, nil
			}
		}
	}
	return 0, fmt.Errorf("%w: a header without a length: %q", errStrange, header)
}

// An object is one JSON object while it is read. It does not check what it has no use
// for: whoever wants the message will.
type object struct {
	depth  int
	places [maxNesting]place
	values map[string]string

	text    bool // within a string
	escaped bool // behind a backslash
	scalar  bool // within a number, true, false or null
	value   []byte
}

// A place is where a value is in the object or list it belongs to.
type place struct {
	list   bool
	index  int
	key    string
	hasKey bool // an object's key has been read: what comes is its value
}

// here is the innermost place, nil when it is too deep to matter.
func (o *object) here() *place {
	if o.depth > 0 && o.depth <= maxNesting {
		return &o.places[o.depth-1]
	}
	return nil
}

// read reads up to the object's end, and says how many bytes that took.
func (o *object) read(b []byte) (n int, ended bool, err error) {
	for i, c := range b {
		if o.text {
			o.inText(c)
			continue
		}
		switch {
		case c == '"' && o.depth > 0:
			o.text, o.value = true, o.value[:0]
		case c == '{' || c == '[' && o.depth > 0:
			if o.depth == 0 {
				o.values = map[string]string{}
			}
			o.depth++
			if p := o.here(); p != nil {
				*p = place{list: c == '['}
			}
		case (c == '}' || c == ']') && o.depth > 0:
			o.endScalar()
			o.depth--
			if o.depth == 0 {
				return i + 1, true, nil
			}
		case c == ',' && o.depth > 0:
			o.endScalar()
			if p := o.here(); p != nil {
				p.index++
				p.hasKey = false
			}
		case c == ':' && o.depth > 0:
			if p := o.here(); p != nil {
				p.hasKey = true
			}
		case c == ' ' || c == '\n' || c == '\r' || c == '\t':
			o.endScalar()
		case o.depth == 0:
			return i, false, fmt.Errorf("%w: it begins with %q", errStrange, c)
		default:
			if !o.scalar {
				o.scalar, o.value = true, o.value[:0]
			}
			o.keep(c)
		}
	}
	return len(b), false, nil
}

func (o *object) inText(c byte) {
	switch {
	case o.escaped:
		o.escaped = false
		o.keep(c)
	case c == '\\':
		o.escaped = true
		o.keep(c)
	case c == '"':
		o.text = false
		if p := o.here(); p != nil && !p.list && !p.hasKey {
			p.key = string(o.value)
			return
		}
		o.store()
	default:
		o.keep(c)
	}
}

func (o *object) keep(c byte) {
	if len(o.value) < maxValue {
		o.value = append(o.value, c)
	}
}

func (o *object) endScalar() {
	if o.scalar {
		o.scalar = false
		o.store()
	}
}

// store keeps a value if it is wanted.
func (o *object) store() {
	if o.depth > maxNesting {
		return
	}
	var name strings.Builder
	for i := range o.depth {
		p := &o.places[i]
		if i > 0 {
			name.WriteByte('.')
		}
		if p.list {
			name.WriteString(strconv.Itoa(p.index))
		} else {
			name.WriteString(p.key)
		}
	}
	if wanted[name.String()] {
		o.values[name.String()] = string(o.value)
	}
}
