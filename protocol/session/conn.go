package session

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// Conn is an established session. Send, SendBatch and Close may be called from anywhere, Recv and Ready from one goroutine
// at a time.
type Conn struct {
	rw      io.ReadWriteCloser
	peerKey [KeySize]byte
	peerID  string

	sendMu  sync.Mutex
	send    *cipherState
	single  Batch // Send's
	sendErr error // after it nothing is sent any more: part of a record may be on its way

	in      inbox
	recv    *cipherState
	recvErr error
}

// PeerKey is the static public key that the peer has proved to hold.
func (c *Conn) PeerKey() [KeySize]byte { return c.peerKey }

// PeerID is the device id that the dialler presented. It is empty on the dialler's own side, which chose its peer by key.
func (c *Conn) PeerID() string { return c.peerID }

// Send sends one record. payload, at most MaxPayload bytes, is not kept. A record too long is ErrPayloadLength and harms
// nothing; every other error ends sending for good, since part of a record may have been written.
func (c *Conn) Send(channel uint32, payload []byte) error {
	c.sendMu.Lock()
	defer c.sendMu.Unlock()
	if err := c.single.Add(channel, payload); err != nil {
		return err
	}
	return c.sendBatch(&c.single)
}

// Recv gives the next record's channel and payload, which is valid until the next Recv.
//
// io.EOF means that the stream ended between records, io.ErrUnexpectedEOF within one. A record on a channel other than
// ChannelControl and ChannelPackageFS is answered with a close record and reported as ErrChannel. Every error ends
// receiving for good, with one exception: after os.ErrDeadlineExceeded Recv may be called again, nothing is lost.
func (c *Conn) Recv() (channel uint32, payload []byte, err error) {
	if c.recvErr != nil {
		return 0, nil, c.recvErr
	}
	channel, payload, err = c.next()
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		c.recvErr = err
	}
	return channel, payload, err
}

// Ready says that the next Recv will not wait: a whole record is in memory, or nothing more will be received. Whoever waits
// with a deadline sets it when it is not ready; whoever gathers something to send sends it then.
func (c *Conn) Ready() bool {
	if c.recvErr != nil {
		return true
	}
	header := c.in.buffered()
	return len(header) >= lengthSize && len(header) >= lengthSize+int(binary.BigEndian.Uint16(header))
}

func (c *Conn) next() (uint32, []byte, error) {
	header, err := c.in.peek(lengthSize)
	if err != nil {
		return 0, nil, readError(err, len(header) > 0)
	}
	n := int(binary.BigEndian.Uint16(header))
	if err := CheckRecordLength(n); err != nil {
		return 0, nil, err
	}
	record, err := c.in.peek(lengthSize + n)
	if err != nil {
		return 0, nil, readError(err, true)
	}
	c.in.skip(lengthSize + n)
	plaintext, err := c.recv.open(record[lengthSize:])
	if err != nil {
		return 0, nil, err
	}
	channel, payload := split(plaintext)
	if channel != ChannelControl && channel != ChannelPackageFS {
		// Should this fail, so will every later Send; the session is over in any case.
		c.Send(ChannelControl, AppendClose(nil, fmt.Sprintf("unknown channel %d", channel)))
		return 0, nil, fmt.Errorf("%w: %d", ErrChannel, channel)
	}
	return channel, payload, nil
}

// split takes a record's plaintext apart, which has at least its channel.
func split(plaintext []byte) (channel uint32, payload []byte) {
	return binary.LittleEndian.Uint32(plaintext), plaintext[channelSize:]
}

// readError leaves io.EOF bare, as readers of streams expect it.
func readError(err error, begun bool) error {
	if err = unexpected(err, begun); err == io.EOF {
		return err
	}
	return fmt.Errorf("session: read record: %w", err)
}

// Close closes the connection underneath, which ends a Send and a Recv that are waiting. It sends nothing: whoever wants
// to tell the peer why sends AppendClose's message first.
func (c *Conn) Close() error { return c.rw.Close() }
