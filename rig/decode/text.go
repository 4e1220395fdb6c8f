package decode

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"dsoftbus-rig/protocol/nxsb"
	"dsoftbus-rig/protocol/pk"
	"dsoftbus-rig/protocol/session"
)

// Hex decodes one frame that is written in hexadecimal, an announce or a PK frame, and gives a line about it: "STAT system/build.prop",
// "OPEN OK handle=1", "reject PATH_TRAVERSAL: …", "announce node9 …", or "malformed: " and the decoder's error. Its error is of a line
// that is no hexadecimal; blanks and colons in it do not matter.
//
// A request gives what it asks for, or the status with which a server of the contract's limits rejects it. An answer that rejects a request gives the
// same status.
func Hex(line string) (string, error) {
	data, err := hex.DecodeString(strings.NewReplacer(" ", "", "\t", "", ":", "").Replace(line))
	if err != nil {
		return "", fmt.Errorf("not a frame in hexadecimal: %w", err)
	}
	text, err := datagram(data)
	if err != nil {
		return "malformed: " + err.Error(), nil
	}
	return text, nil
}

// datagram describes bytes of which nobody says what they are.
func datagram(data []byte) (string, error) {
	// Both begin with a letter that the other one never has.
	if len(data) > 0 && data[0] == 'P' {
		if len(data) > 3 && data[3]&0x80 != 0 {
			return answerText(data)
		}
		return requestText(data, pk.DefaultLimits()), nil
	}
	a, err := nxsb.Parse(data)
	if err != nil {
		return "", err
	}
	return announceText(a), nil
}

func announceText(a nxsb.Announce) string {
	services := make([]string, len(a.Services))
	for i, s := range a.Services {
		services[i] = printable(s)
	}
	return fmt.Sprintf("announce %s port=%d key=%x… services=%s", printable(a.DeviceID), a.Port, a.Key[:4], strings.Join(services, ","))
}

// wide are limits that no server has set lower: what a server's own say is seen in its answer.
var wide = pk.Limits{MaxPath: 65509, MaxRead: 65508, MaxHandles: 1}

// requestText describes a request, or why a server of those limits rejects it.
func requestText(frame []byte, limits pk.Limits) string {
	r, status := pk.ParseRequest(frame, true, limits)
	if status == pk.OK {
		switch r.Op {
		case pk.Stat, pk.Open:
			return r.Op.String() + " " + printable(r.Name.Rel())
		case pk.Read:
			return fmt.Sprintf("READ h=%d off=%d len=%d", r.Handle, r.Offset, r.Length)
		}
		return fmt.Sprintf("%s h=%d", r.Op, r.Handle)
	}
	what := fmt.Sprintf("%d bytes", len(frame))
	if len(frame) > 3 {
		op := pk.Op(frame[3])
		what = fmt.Sprintf("%s of %d bytes", op, len(frame))
		if (op == pk.Stat || op == pk.Open) && len(frame) > 6 {
			what = fmt.Sprintf("%s %q", op, clipped(frame[6:]))
		}
	}
	return fmt.Sprintf("reject %s: %s", status, what)
}

// maxQuoted is how much of a path that breaks the rules is shown.
const maxQuoted = 200

func clipped(b []byte) []byte { return b[:min(len(b), maxQuoted)] }

// answerText describes an answer by itself.
func answerText(frame []byte) (string, error) {
	r, err := pk.ParseResponse(frame)
	if err != nil {
		return "", err
	}
	const rejectLen = 5 // the contract's short form, which is also the whole answer to a CLOSE
	if len(frame) == rejectLen && r.Op != pk.Close {
		return fmt.Sprintf("reject %s: answer to %s", r.Status, r.Op), nil
	}
	return r.Op.String() + " " + outcome(r), nil
}

// outcome is what an answer says of its request.
func outcome(r pk.Response) string {
	text := r.Status.String()
	if r.Status != pk.OK {
		return text
	}
	switch r.Op {
	case pk.Stat:
		text += fmt.Sprintf(" size=%d", r.Size)
		if r.Kind != pk.KindFile {
			text += fmt.Sprintf(" kind=%d", r.Kind)
		}
	case pk.Open:
		text += fmt.Sprintf(" handle=%d", r.Handle)
	case pk.Read:
		text += fmt.Sprintf(" n=%d", len(r.Data))
	}
	return text
}

// A way is one direction of packagefs frames: the requests of one side that are not answered yet.
type way struct {
	asked []request
}

type request struct {
	op   byte // of its answer
	text string
}

// maxAsked bounds what is remembered of a peer that is never answered.
const maxAsked = 4096

// packageFrame describes a frame of the package channel. Both sides ask and answer on it: it is the answer to the oldest request of the other side if it looks like
// that, else a request (see package dsoftbusd).
func packageFrame(frame []byte, own, other *way) (text string, err error) {
	if len(other.asked) > 0 && pk.IsResponse(frame, other.asked[0].op) {
		asked := other.asked[0]
		other.asked = other.asked[1:]
		r, err := pk.ParseResponse(frame)
		if err != nil {
			return asked.text + " ->", err
		}
		return asked.text + " -> " + outcome(r), nil
	}
	text = requestText(frame, wide)
	if len(own.asked) < maxAsked {
		own.asked = append(own.asked, request{pk.EchoOp(frame), text})
	}
	return text, nil
}

// recordText describes an opened record.
func recordText(channel uint32, payload []byte, own, other *way) (string, error) {
	switch channel {
	case session.ChannelPackageFS:
		return packageFrame(payload, own, other)
	case session.ChannelControl:
		c, err := session.ParseControl(payload)
		if err != nil {
			return "control", err
		}
		switch c.Kind {
		case session.Ping:
			return "ping", nil
		case session.Pong:
			return "pong", nil
		}
		return fmt.Sprintf("close %q", c.Reason), nil
	}
	return fmt.Sprintf("channel %d, %d bytes", channel, len(payload)), fmt.Errorf("%w: %d", session.ErrChannel, channel)
}

// printable returns text as it is where it does no harm in a line, quoted otherwise.
func printable(s string) string {
	for _, r := range s {
		if !strconv.IsPrint(r) || r == utf8.RuneError {
			return strconv.Quote(s)
		}
	}
	return s
}

// errCut is a message of which the stream has the beginning only.
var errCut = errors.New("the stream ends within it")
