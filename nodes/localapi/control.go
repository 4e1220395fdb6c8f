package localapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// Code is the machine-readable reason of a refused request or a lost session.
type Code string

// The codes dsoftbusd answers with.
const (
	CodeUnknownPeer Code = "unknown-peer" // no device of that id is paired or has been heard of
	CodeNotPaired   Code = "not-paired"   // heard of, but not in the pairing list
	CodeNoSession   Code = "no-session"   // paired, and no session came up within the wait
	CodeBadRequest  Code = "bad-request"  // the control message was not understood
	CodeSessionLost Code = "session-lost" // the session of an open connection died
)

// An Error is what dsoftbusd reported with an error message. errors.Is
// matches any other *Error of the same code, so
// errors.Is(err, &Error{Code: CodeNoSession}) asks for the reason.
type Error struct {
	Code Code
	Text string // for people; already names the peer
}

// Error returns the text, or the code when there is none.
func (e *Error) Error() string {
	if e.Text == "" {
		return string(e.Code)
	}
	return e.Text
}

// Is reports whether target is an *Error of the same code.
func (e *Error) Is(target error) bool {
	other, ok := target.(*Error)
	return ok && other.Code == e.Code
}

// Open asks for a connection to a peer's package service.
type Open struct {
	Peer   string `json:"peer"`             // device id
	WaitMS int64  `json:"wait_ms"`          // how long to wait for a session, in milliseconds; 0 takes only one that is there
	Shared bool   `json:"shared,omitempty"` // the program takes long answers in shared memory
}

// Wait returns WaitMS as a duration.
func (o Open) Wait() time.Duration { return time.Duration(o.WaitMS) * time.Millisecond }

// MaxWait bounds Open.WaitMS. An hour is longer than any program waits and far
// from where milliseconds overflow a duration.
const MaxWait = time.Hour

// A Request is the client's first message: exactly one field is set.
type Request struct {
	Open  *Open `json:"open,omitempty"`
	Peers bool  `json:"peers,omitempty"`
}

// A Peer is one device dsoftbusd is paired with or has heard of.
type Peer struct {
	ID        string   `json:"id"`
	Paired    bool     `json:"paired"`
	Addresses []string `json:"addresses"` // source addresses of its announces, latest first; no port
	Port      uint16   `json:"port"`      // announced session port, 0 while unheard
	Session   bool     `json:"session"`   // a session is up now
	Services  []string `json:"services"`  // announced services
	AgeMS     int64    `json:"age_ms"`    // since its latest announce, in milliseconds; -1 while unheard
}

// A Reply is any control message of dsoftbusd.
type Reply struct {
	OK     bool   `json:"ok,omitempty"`
	Shared bool   `json:"shared,omitempty"` // with OK: the descriptor of the memory came along
	Error  string `json:"error,omitempty"`
	Code   Code   `json:"code,omitempty"`
	Peers  []Peer `json:"peers,omitzero"` // nil is absent, empty is an empty list
	More   bool   `json:"more,omitempty"` // another list of peers follows
}

// Err returns the *Error the reply carries, nil when it carries none.
func (r Reply) Err() error {
	if r.Error == "" && r.Code == "" {
		return nil
	}
	return &Error{Code: r.Code, Text: r.Error}
}

var (
	errNotOneRequest = errors.New(`want exactly one of "open" and "peers"`)
	errTrailing      = errors.New("bytes after the JSON object")
)

// maxPeerID is the longest device id in bytes (contract, head).
const maxPeerID = 64

// ParseRequest decodes and checks the body of a request: strict JSON (an
// unknown field is an error, so a misspelt one cannot be silently ignored),
// exactly one request, a peer id of 1 to 64 bytes UTF-8, a wait between 0 and
// MaxWait. Every error is an *Error with CodeBadRequest.
func ParseRequest(body []byte) (Request, error) {
	req, err := parseRequest(body)
	if err != nil {
		return Request{}, &Error{Code: CodeBadRequest, Text: "bad request: " + err.Error()}
	}
	return req, nil
}

func parseRequest(body []byte) (Request, error) {
	var req Request
	if err := decode(body, &req, true); err != nil {
		return Request{}, err
	}
	if (req.Open != nil) == req.Peers {
		return Request{}, errNotOneRequest
	}
	if req.Open != nil {
		// It is UTF-8 already: the JSON decoder replaces what is not.
		if n := len(req.Open.Peer); n < 1 || n > maxPeerID {
			return Request{}, fmt.Errorf("peer id of %d bytes, want 1 to %d", n, maxPeerID)
		}
		if ms := req.Open.WaitMS; ms < 0 || ms > MaxWait.Milliseconds() {
			return Request{}, fmt.Errorf("wait of %d ms, want 0 to %d", ms, MaxWait.Milliseconds())
		}
	}
	return req, nil
}

// ParseReply decodes the body of a reply. Fields this version does not know
// are ignored, so a newer dsoftbusd can say more.
func ParseReply(body []byte) (Reply, error) {
	var reply Reply
	if err := decode(body, &reply, false); err != nil {
		return Reply{}, fmt.Errorf("malformed control message: %w", err)
	}
	return reply, nil
}

func decode(body []byte, into any, strict bool) error {
	dec := json.NewDecoder(bytes.NewReader(body))
	if strict {
		dec.DisallowUnknownFields()
	}
	if err := dec.Decode(into); err != nil {
		if err == io.EOF {
			return io.ErrUnexpectedEOF
		}
		return err
	}
	if _, err := dec.Token(); err != io.EOF {
		return errTrailing
	}
	return nil
}
