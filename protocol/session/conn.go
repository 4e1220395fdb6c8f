package session

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/flynn/noise"
)

// Conn is an established session. Send and Close may be called from anywhere, Recv from one goroutine at a time.
type Conn struct {
	rw      io.ReadWriteCloser
	peerKey [KeySize]byte
	peerID  string

	sendMu  sync.Mutex
	send    *noise.CipherState
	sendBuf []byte
	sendErr error // after it nothing is sent any more: part of a record may be on its way

	reader  *bufio.Reader
	recv    *noise.CipherState
	pending int // bytes of the record that the last Recv returned, still at the front of reader
	recvErr error
}

// PeerKey is the static public key that the peer has proved to hold.
func (c *Conn) PeerKey() [KeySize]byte { return c.peerKey }

// PeerID is the device id that the dialler presented. It is empty on the dialler's own side, which chose its peer by key.
func (c *Conn) PeerID() string { return c.peerID }

// Send sends one record. payload, at most MaxPayload bytes, is not kept. A record too long is ErrPayloadLength and harms
// nothing; every other error ends sending for good, since part of a record may have been written.
func (c *Conn) Send(channel uint32, payload []byte) error {
	if len(payload) > MaxPayload {
		return fmt.Errorf("%w: %d bytes", ErrPayloadLength, len(payload))
	}
	c.sendMu.Lock()
	defer c.sendMu.Unlock()
	if c.sendErr != nil {
		return c.sendErr
	}
	n := channelSize + len(payload) + tagSize
	buf := append(c.sendBuf[:0], byte(n>>8), byte(n))
	buf = binary.LittleEndian.AppendUint32(buf, channel)
	buf = append(buf, payload...)
	plaintext := buf[lengthSize:]
	buf, err := c.send.Encrypt(buf[:lengthSize], nil, plaintext) // in place
	if err != nil {
		c.sendErr = fmt.Errorf("session: encrypt record: %w", err)
		return c.sendErr
	}
	c.sendBuf = buf
	if _, err := c.rw.Write(buf); err != nil {
		c.sendErr = fmt.Errorf("session: write record: %w", err)
	}
	return c.sendErr
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

func (c *Conn) next() (uint32, []byte, error) {
	if _, err := c.reader.Discard(c.pending); err != nil {
		return 0, nil, fmt.Errorf("session: read record: %w", err)
	}
	c.pending = 0
	header, err := c.reader.Peek(lengthSize)
	if err != nil {
		return 0, nil, readError(err, len(header) > 0)
	}
	n := int(binary.BigEndian.Uint16(header))
	if n < minRecord {
		return 0, nil, fmt.Errorf("%w: %d bytes", ErrRecordLength, n)
	}
	record, err := c.reader.Peek(lengthSize + n)
	if err != nil {
		return 0, nil, readError(err, true)
	}
	c.pending = lengthSize + n
	ciphertext := record[lengthSize:]
	plaintext, err := c.recv.Decrypt(ciphertext[:0], nil, ciphertext) // in place
	if err != nil {
		return 0, nil, ErrDecrypt
	}
	channel := binary.LittleEndian.Uint32(plaintext)
	if channel != ChannelControl && channel != ChannelPackageFS {
		// Should this fail, so will every later Send; the session is over in any case.
		c.Send(ChannelControl, AppendClose(nil, fmt.Sprintf("unknown channel %d", channel)))
		return 0, nil, fmt.Errorf("%w: %d", ErrChannel, channel)
	}
	return channel, plaintext[channelSize:], nil
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
