package remotefs

import (
	"fmt"

	"dsoftbus-rig/protocol/pk"
)

// A call is one request on the way. The goroutine that started it owns it until
// start succeeds and again once it is done; in between the Client does.
type call struct {
	op  pk.Op  // what the answer must be to
	dst []byte // READ: where the data goes, as long as what was asked for
	raw bool   // keep the frame and check nothing

	response pk.Response // Data is in dst
	n        int         // READ: bytes in dst
	frame    []byte      // raw: the answer
	err      error       // the session ended before an answer

	done      chan *call // gets the call itself when it is done; has room for it
	pending   bool       // in the queue; guarded by Client.mu
	abandoned bool       // nobody waits; guarded by Client.mu while pending
}

func newCall(op pk.Op) *call { return &call{op: op, done: make(chan *call, 1)} }

func (k *call) finish() { k.done <- k }

// answer takes the answer from a frame that is only valid now.
func (k *call) answer(frame []byte) error {
	if k.raw {
		k.frame = append([]byte{}, frame...)
		// For an OPEN that is given up while under way.
		k.response, _ = pk.ParseResponse(k.frame)
		return nil
	}
	response, err := pk.ParseResponse(frame)
	if err != nil {
		return fmt.Errorf("%w (%w)", ErrProtocol, err)
	}
	if response.Op != k.op {
		return fmt.Errorf("%w: %s instead of %s", ErrProtocol, response.Op, k.op)
	}
	if len(response.Data) > len(k.dst) {
		return fmt.Errorf("%w: %d bytes instead of %d", ErrProtocol, len(response.Data), len(k.dst))
	}
	k.n = copy(k.dst, response.Data)
	response.Data = nil
	k.response = response
	return nil
}

// queue is a ring of pending calls. Slots bound it, so it never grows.
type queue struct {
	ring  []*call
	first int
	count int
}

func newQueue(size int) queue { return queue{ring: make([]*call, size)} }

func (q *queue) len() int { return q.count }

func (q *queue) push(k *call) {
	k.pending = true
	q.ring[(q.first+q.count)%len(q.ring)] = k
	q.count++
}

func (q *queue) pop() *call {
	k := q.ring[q.first]
	q.ring[q.first] = nil
	q.first = (q.first + 1) % len(q.ring)
	q.count--
	k.pending = false
	return k
}
