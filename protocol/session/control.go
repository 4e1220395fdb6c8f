package session

import (
	"errors"
	"fmt"
	"unicode/utf8"
)

// ControlKind is the first byte of a message on ChannelControl.
type ControlKind byte

// The control messages.
const (
	Ping         ControlKind = 1 // to be answered with a Pong
	Pong         ControlKind = 2
	CloseSession ControlKind = 3 // the sender ends the session; with a reason
)

// Control is one control message.
type Control struct {
	Kind   ControlKind
	Reason string // CloseSession: UTF-8, may be empty; written by the peer, so to be quoted when shown
}

// ErrControl is a message on ChannelControl that is none of the three.
var ErrControl = errors.New("session: malformed control message")

// AppendPing appends a ping.
func AppendPing(dst []byte) []byte { return append(dst, byte(Ping)) }

// AppendPong appends a pong.
func AppendPong(dst []byte) []byte { return append(dst, byte(Pong)) }

// MaxReason bounds the reasons that AppendClose sends, in bytes: one line for a person to read.
const MaxReason = 256

// AppendClose appends a close message. reason should be UTF-8; it is cut at MaxReason bytes.
func AppendClose(dst []byte, reason string) []byte {
	if len(reason) > MaxReason {
		end := MaxReason
		for !utf8.RuneStart(reason[end]) {
			end--
		}
		reason = reason[:end]
	}
	dst = append(dst, byte(CloseSession))
	return append(dst, reason...)
}

// ParseControl decodes the payload of a record on ChannelControl.
func ParseControl(payload []byte) (Control, error) {
	if len(payload) == 0 {
		return Control{}, fmt.Errorf("%w: empty", ErrControl)
	}
	c := Control{Kind: ControlKind(payload[0])}
	rest := payload[1:]
	switch c.Kind {
	case Ping, Pong:
		if len(rest) != 0 {
			return Control{}, fmt.Errorf("%w: kind %d of %d bytes", ErrControl, c.Kind, len(payload))
		}
		return c, nil
	case CloseSession:
		if !utf8.Valid(rest) {
			return Control{}, fmt.Errorf("%w: reason is not UTF-8", ErrControl)
		}
		c.Reason = string(rest)
		return c, nil
	}
	return Control{}, fmt.Errorf("%w: kind %d", ErrControl, payload[0])
}
