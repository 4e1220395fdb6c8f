package pk

import "fmt"

// Op is a request's operation, byte 3 of its frame. A response carries it with the top bit set.
type Op byte

// The operations of PK v1.
const (
	Stat  Op = 1
	Open  Op = 2
	Read  Op = 3
	Close Op = 4
)

// responseBit marks byte 3 of a response.
const responseBit = 0x80

// String gives the contract's name of the operation, or "OP(0x2a)" for one that has none.
func (o Op) String() string {
	switch o {
	case Stat:
		return "STAT"
	case Open:
		return "OPEN"
	case Read:
		return "READ"
	case Close:
		return "CLOSE"
	}
	return fmt.Sprintf("OP(0x%02x)", byte(o))
}
