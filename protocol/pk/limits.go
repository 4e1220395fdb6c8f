package pk

import "fmt"

// Limits are a server's policy, the same for every session. They are no part of the wire format.
type Limits struct {
	MaxPath    int // bytes of a path with its prefix, 1..65509
	MaxRead    int // bytes of one READ, 1..65508
	MaxHandles int // open handles of one session, at least 1
}

// What one record of a session leaves for a frame (65,515 bytes) less the bytes before the path or the data.
const (
	largestPath = 65515 - pathOffset
	largestRead = 65515 - readDataOffset
)

// DefaultLimits are those of the contract's section 3.
func DefaultLimits() Limits {
	return Limits{
		MaxPath:    192,   // what existing peers accept
		MaxRead:    32768, // existing peers stop at FallbackRead
		MaxHandles: 8,     // what existing peers give out
	}
}

// FallbackRead is the READ length that every server accepts: a client whose own choice is answered OVERSIZED goes on
// with it. 128 is what existing peers accept.
const FallbackRead = 128

// Validate reports the first limit that could not be kept on the wire.
func (l Limits) Validate() error {
	switch {
	case l.MaxPath < 1 || l.MaxPath > largestPath:
		return fmt.Errorf("path limit %d is outside 1..%d bytes", l.MaxPath, largestPath)
	case l.MaxRead < 1 || l.MaxRead > largestRead:
		return fmt.Errorf("read limit %d is outside 1..%d bytes", l.MaxRead, largestRead)
	case l.MaxHandles < 1:
		return fmt.Errorf("handle limit %d is below 1", l.MaxHandles)
	}
	return nil
}

// String is the form printed at a server's start: "path=192 read=32768 handles=8".
func (l Limits) String() string {
	return fmt.Sprintf("path=%d read=%d handles=%d", l.MaxPath, l.MaxRead, l.MaxHandles)
}
