package pk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// Where the fields of a response are.
const (
	statusAt       = 4
	rejectLen      = 5
	statSizeAt     = 5
	statKindAt     = 13
	statLen        = 15
	openHandleAt   = 5
	openLen        = 9
	readCountAt    = 5
	readDataOffset = 7
)

// KindFile is the only kind of STAT that PK v1 knows.
const KindFile uint16 = 0

// Response is one valid response. Which fields beyond Op and Status have a meaning depends on Op, and on the status
// being OK: they are zero otherwise.
type Response struct {
	Op     Op // without the response bit; in a reject it may be any value the request carried
	Status Status
	Size   uint64 // STAT: bytes
	Kind   uint16 // STAT: KindFile
	Handle uint32 // OPEN
	Data   []byte // READ: a view of the frame
}

// What can be wrong with a response.
var (
	ErrTruncated = errors.New("pk: truncated response")
	ErrLength    = errors.New("pk: response of the wrong length")
	ErrMagic     = errors.New("pk: response without the magic of PK v1")
	ErrOp        = errors.New("pk: response to an unknown operation")
	ErrStatus    = errors.New("pk: unknown status")
)

// ParseResponse decodes a response. A failed one may have the five bytes of a reject or its operation's full length.
func ParseResponse(frame []byte) (Response, error) {
	if len(frame) < rejectLen {
		return Response{}, fmt.Errorf("%w: %d bytes", ErrTruncated, len(frame))
	}
	if frame[0] != 'P' || frame[1] != 'K' || frame[2] != version {
		return Response{}, fmt.Errorf("%w: % x", ErrMagic, frame[:3])
	}
	if frame[3]&responseBit == 0 {
		return Response{}, fmt.Errorf("%w: 0x%02x", ErrOp, frame[3])
	}
	r := Response{Op: Op(frame[3] &^ responseBit), Status: Status(frame[statusAt])}
	if !r.Status.Valid() {
		return Response{}, fmt.Errorf("%w: %d", ErrStatus, frame[statusAt])
	}
	if len(frame) == rejectLen && (r.Status != OK || r.Op == Close) {
		return r, nil
	}
	switch r.Op {
	case Stat:
		return parseStatResponse(r, frame)
	case Open:
		return parseOpenResponse(r, frame)
	case Read:
		return parseReadResponse(r, frame)
	case Close:
		return Response{}, lengthError(r.Op, frame)
	}
	return Response{}, fmt.Errorf("%w: 0x%02x", ErrOp, frame[3])
}

func parseStatResponse(r Response, frame []byte) (Response, error) {
	if len(frame) != statLen {
		return Response{}, lengthError(r.Op, frame)
	}
	if r.Status == OK {
		r.Size = binary.LittleEndian.Uint64(frame[statSizeAt:])
		r.Kind = binary.LittleEndian.Uint16(frame[statKindAt:])
	}
	return r, nil
}

func parseOpenResponse(r Response, frame []byte) (Response, error) {
	if len(frame) != openLen {
		return Response{}, lengthError(r.Op, frame)
	}
	if r.Status == OK {
		r.Handle = binary.LittleEndian.Uint32(frame[openHandleAt:])
	}
	return r, nil
}

func parseReadResponse(r Response, frame []byte) (Response, error) {
	if len(frame) < readDataOffset {
		return Response{}, lengthError(r.Op, frame)
	}
	n := int(binary.LittleEndian.Uint16(frame[readCountAt:]))
	if len(frame) != readDataOffset+n || (r.Status != OK && n != 0) {
		return Response{}, lengthError(r.Op, frame)
	}
	if r.Status == OK {
		r.Data = frame[readDataOffset:]
	}
	return r, nil
}

func lengthError(op Op, frame []byte) error {
	return fmt.Errorf("%w: %s of %d bytes", ErrLength, op, len(frame))
}

// EchoOp is byte 3 of the response to frame, whatever frame holds: the request's own byte 3 with the response bit, or
// STAT's when the frame has no byte 3.
func EchoOp(frame []byte) byte {
	if len(frame) < headerLen {
		return byte(Stat) | responseBit
	}
	return frame[3] | responseBit
}

// IsResponse says whether a frame has the look of a response whose byte 3 is op, as EchoOp gave it.
func IsResponse(frame []byte, op byte) bool {
	return len(frame) >= rejectLen && hasHeader(frame) && frame[3] == op
}

// hasHeader reports whether a frame begins as every request and response does; its byte 3 is then the operation.
func hasHeader(frame []byte) bool {
	return len(frame) > 3 && frame[0] == 'P' && frame[1] == 'K' && frame[2] == version
}

// Answers reports whether a frame goes in the direction of responses: the top bit of its operation says so, whether or not
// there is such an operation.
func Answers(frame []byte) bool {
	return hasHeader(frame) && frame[3]&responseBit != 0
}

// AppendReject appends the five-byte answer to a request that ParseRequest refused.
func AppendReject(dst, frame []byte, status Status) []byte {
	return append(dst, 'P', 'K', version, EchoOp(frame), byte(status))
}

// AppendStatResponse appends the answer to a STAT. size (bytes) and kind are sent only with OK.
func AppendStatResponse(dst []byte, status Status, size uint64, kind uint16) []byte {
	if status != OK {
		size, kind = 0, 0
	}
	dst = append(dst, 'P', 'K', version, byte(Stat)|responseBit, byte(status))
	dst = binary.LittleEndian.AppendUint64(dst, size)
	return binary.LittleEndian.AppendUint16(dst, kind)
}

// AppendOpenResponse appends the answer to an OPEN. handle is sent only with OK.
func AppendOpenResponse(dst []byte, status Status, handle uint32) []byte {
	if status != OK {
		handle = 0
	}
	dst = append(dst, 'P', 'K', version, byte(Open)|responseBit, byte(status))
	return binary.LittleEndian.AppendUint32(dst, handle)
}

// AppendReadResponse appends the answer to a READ. data, at most 65,508 bytes, is sent only with OK; more is cut, since
// no record could carry it.
func AppendReadResponse(dst []byte, status Status, data []byte) []byte {
	if status != OK {
		data = nil
	}
	if len(data) > largestRead {
		data = data[:largestRead]
	}
	dst = append(dst, 'P', 'K', version, byte(Read)|responseBit, byte(status))
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(data)))
	return append(dst, data...)
}

// AppendReadRoom appends the answer to a READ that is OK, with n bytes of data, 0..65,508, which the caller has yet to fill in:
// data is their place in frame. So a file is read into the memory that is sent.
func AppendReadRoom(dst []byte, n int) (frame, data []byte) {
	dst = append(dst, 'P', 'K', version, byte(Read)|responseBit, byte(OK))
	dst = binary.LittleEndian.AppendUint16(dst, uint16(n))
	frame = slices.Grow(dst, n)[:len(dst)+n]
	return frame, frame[len(dst):]
}

// AppendCloseResponse appends the answer to a CLOSE.
func AppendCloseResponse(dst []byte, status Status) []byte {
	return append(dst, 'P', 'K', version, byte(Close)|responseBit, byte(status))
}
