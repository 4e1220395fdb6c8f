package packagefsd

import (
	"encoding/binary"
	"errors"
	"fmt"

	"dsoftbus-rig/protocol/pk"
)

type op byte

const (
	opResolve op = 1 // open the file a name means
	opPing    op = 2 // answer with OK and nothing else; the name is empty
)

type status byte

const (
	statusOK         status = 0
	statusNotFound   status = 1
	statusBadRequest status = 2
	statusFailed     status = 3 // the store could not tell
)

const (
	messageVersion = 1
	requestHeader  = 8
	answerHeader   = 12
	// maxName: Linux has no path longer than PATH_MAX, so a longer name means
	// no file.
	maxName = 4096
	// maxText keeps an answer small whatever an error has to say.
	maxText    = 512
	maxRequest = requestHeader + maxName
	maxAnswer  = answerHeader + maxText
)

var errMalformed = errors.New("malformed message")

// appendRequest appends a request. The name has at most maxName bytes, which
// the caller has checked.
func appendRequest(dst []byte, o op, name pk.Name) []byte {
	dst = append(dst, 'P', 'F', messageVersion, byte(o))
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(name.Bundle)))
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(name.Version)))
	dst = append(dst, name.Bundle...)
	dst = append(dst, name.Version...)
	return append(dst, name.Path...)
}

func parseRequest(msg []byte) (op, pk.Name, error) {
	if len(msg) < requestHeader || msg[0] != 'P' || msg[1] != 'F' || msg[2] != messageVersion {
		return 0, pk.Name{}, errMalformed
	}
	o := op(msg[3])
	bundle, version := int(binary.LittleEndian.Uint16(msg[4:])), int(binary.LittleEndian.Uint16(msg[6:]))
	rest := string(msg[requestHeader:])
	if len(rest) < bundle+version {
		return 0, pk.Name{}, fmt.Errorf("%w: %d bytes of name, %d announced", errMalformed, len(rest), bundle+version)
	}
	name := pk.Name{Bundle: rest[:bundle], Version: rest[bundle : bundle+version], Path: rest[bundle+version:]}
	if o != opResolve && o != opPing {
		return 0, pk.Name{}, fmt.Errorf("%w: operation %d", errMalformed, o)
	}
	if o == opPing && name != (pk.Name{}) {
		return 0, pk.Name{}, fmt.Errorf("%w: a ping with a name", errMalformed)
	}
	return o, name, nil
}

func appendAnswer(dst []byte, s status, size int64, text string) []byte {
	dst = append(dst, 'P', 'F', messageVersion, byte(s))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(size))
	return append(dst, text[:min(len(text), maxText)]...)
}

func parseAnswer(msg []byte) (s status, size int64, text string, err error) {
	if len(msg) < answerHeader || msg[0] != 'P' || msg[1] != 'F' || msg[2] != messageVersion || status(msg[3]) > statusFailed {
		return 0, 0, "", errMalformed
	}
	size = int64(binary.LittleEndian.Uint64(msg[4:]))
	if size < 0 {
		return 0, 0, "", fmt.Errorf("%w: size beyond 63 bits", errMalformed)
	}
	return status(msg[3]), size, string(msg[answerHeader:]), nil
}
