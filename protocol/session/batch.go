package session

import (
	"encoding/binary"
	"fmt"
)

// Batch is a row of records that go out with one write. Its payloads are written where they will be encrypted, so a record
// costs no copy. The zero value is empty and ready; its memory is kept from one SendBatch to the next. One goroutine at a
// time.
type Batch struct {
	buf []byte // records in the form of the wire, but neither encrypted nor with their tags, for which there is room
}

// Len is the size that the batch has on the wire, in bytes; 0 means that it is empty.
func (b *Batch) Len() int { return len(b.buf) }

// Begin gives memory to append a payload to: a slice of no bytes with room for MaxPayload. It is valid until End.
func (b *Batch) Begin() []byte {
	const whole = lengthSize + maxRecord
	if free := cap(b.buf) - len(b.buf); free < whole {
		// Doubled, so that a batch of many short records is not copied for each of them.
		b.buf = append(make([]byte, 0, max(2*len(b.buf), len(b.buf)+whole)), b.buf...)
	}
	at := len(b.buf) + lengthSize + channelSize
	return b.buf[at : at : at+MaxPayload]
}

// End makes what Begin gave, appended to, a record. More than MaxPayload bytes are ErrPayloadLength, and no record.
func (b *Batch) End(channel uint32, payload []byte) error {
	if len(payload) > MaxPayload {
		return fmt.Errorf("%w: %d bytes", ErrPayloadLength, len(payload))
	}
	n := channelSize + len(payload) + tagSize
	record := b.buf[len(b.buf) : len(b.buf)+lengthSize+n]
	binary.BigEndian.PutUint16(record, uint16(n))
	binary.LittleEndian.PutUint32(record[lengthSize:], channel)
	copy(record[lengthSize+channelSize:], payload) // onto itself, if it is what Begin gave
	b.buf = b.buf[:len(b.buf)+len(record)]
	return nil
}

// Add adds a record; payload is not kept. More than MaxPayload bytes are ErrPayloadLength, and no record.
func (b *Batch) Add(channel uint32, payload []byte) error {
	if len(payload) > MaxPayload {
		return fmt.Errorf("%w: %d bytes", ErrPayloadLength, len(payload))
	}
	return b.End(channel, append(b.Begin(), payload...))
}

// SendBatch sends the batch's records in their order, nothing between them, and empties it. Every error ends sending for
// good, since part of a record may have been written.
func (c *Conn) SendBatch(b *Batch) error {
	c.sendMu.Lock()
	defer c.sendMu.Unlock()
	return c.sendBatch(b)
}

// sendBatch is SendBatch with sendMu held.
func (c *Conn) sendBatch(b *Batch) error {
	buf := b.buf
	b.buf = buf[:0]
	if c.sendErr != nil || len(buf) == 0 {
		return c.sendErr
	}
	for rest := buf; len(rest) > 0; {
		n := int(binary.BigEndian.Uint16(rest))
		if c.sendErr = c.send.seal(rest[lengthSize : lengthSize+n-tagSize]); c.sendErr != nil {
			return c.sendErr
		}
		rest = rest[lengthSize+n:]
	}
	if _, err := c.rw.Write(buf); err != nil {
		c.sendErr = fmt.Errorf("session: write record: %w", err)
	}
	return c.sendErr
}
