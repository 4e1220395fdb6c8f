package localapi

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// body is one that no other number has.
func body(n, size int) []byte {
	return bytes.Repeat([]byte{byte(n), byte(n >> 8), 0x5a}, size/3+1)[:size]
}

// opened serves one program whose open request is answered as dsoftbusd does.
func opened(t *testing.T, f func(c *Conn)) *Conn {
	t.Helper()
	socket := serve(t, func(c *Conn) {
		req, err := c.RecvRequest()
		if err == nil {
			err = c.SendOpened(*req.Open)
		}
		if err != nil {
			t.Error(err)
			return
		}
		f(c)
	})
	c, err := OpenPeer(testContext(t), socket, "node-b", time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); c.EndRecv() })
	c.SetDeadline(time.Now().Add(time.Minute))
	return c
}

// TestShared: bodies of every size arrive, the long ones through memory, while
// its slots are used again and again.
func TestShared(t *testing.T) {
	sizes := []int{0, 1, smallestPooled - 1, smallestPooled, 32775, MaxBody}
	const rounds = 5 * poolSlots
	c := opened(t, func(c *Conn) {
		for n := range rounds {
			if kind, ask, err := c.Recv(); err != nil || kind != KindFrame || string(ask) != "next" {
				t.Errorf("asked for %d with %v %q, %v", n, kind, ask, err)
				return
			}
			if err := c.Send(KindFrame, body(n, sizes[n%len(sizes)])); err != nil {
				t.Error(err)
			}
		}
		if p := c.lends.Load(); p.used > 1 {
			t.Errorf("%d slots were not given back", p.used)
		}
	})
	for n := range rounds {
		if err := c.Send(KindFrame, []byte("next")); err != nil {
			t.Fatal(err)
		}
		size := sizes[n%len(sizes)]
		kind, got, err := c.Recv()
		if err != nil || kind != KindFrame || !bytes.Equal(got, body(n, size)) {
			t.Fatalf("message %d is %v of %d bytes, %v; want %d bytes", n, kind, len(got), err, size)
		}
		if c.borrowed != (size >= smallestPooled) {
			t.Errorf("%d bytes came through memory: %v", size, c.borrowed)
		}
	}
	if _, _, err := c.Recv(); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
}

// TestSharedFull: with no slot free bodies go through the socket, in the same
// order, and nobody waits.
func TestSharedFull(t *testing.T) {
	const count = poolSlots + 3
	c := opened(t, func(c *Conn) {
		for n := range count {
			if err := c.Queue(KindFrame, body(n, 5000)); err != nil {
				t.Error(err)
			}
		}
		if _, ok := c.Lend(body(0, 5000)); ok || c.lends.Load().used != poolSlots {
			t.Errorf("lent more slots than there are: %d", c.lends.Load().used)
		}
		if err := c.Flush(); err != nil {
			t.Error(err)
		}
		if _, _, err := c.Recv(); err != nil || c.lends.Load().used != 0 {
			t.Errorf("%d slots were not given back, %v", c.lends.Load().used, err)
		}
	})
	for n := range count {
		if _, got, err := c.Recv(); err != nil || !bytes.Equal(got, body(n, 5000)) || c.borrowed != (n < poolSlots) {
			t.Fatalf("message %d has %d bytes, through memory: %v, %v", n, len(got), c.borrowed, err)
		}
	}
	if err := c.Send(KindFrame, nil); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Recv(); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
}

// TestQueuedBesideLent: a frame that found no memory when its turn came to be lent,
// and is queued when there is some again, does not take a slot behind those that were
// lent after it: the program gives slots back in the order in which it got frames.
func TestQueuedBesideLent(t *testing.T) {
	const count = 2 * poolSlots
	c := opened(t, func(c *Conn) {
		for n := range poolSlots {
			c.Queue(KindFrame, body(n, 5000)) // all of the memory
		}
		if _, ok := c.Lend(body(poolSlots, 5000)); ok {
			t.Error("lent more slots than there are")
		}
		c.Flush()
		if _, _, err := c.Recv(); err != nil { // all of it comes back
			t.Error(err)
		}
		late, ok := c.Lend(body(poolSlots+1, 5000))
		if !ok {
			t.Error("nothing was given back")
		}
		c.Queue(KindFrame, body(poolSlots, 5000))
		c.QueueLent(late)
		c.Flush()
		// The program has taken the first of the two, and not the second.
		if _, _, err := c.Recv(); err != nil {
			t.Error(err)
		}
		for n := poolSlots + 2; n < count+2; n++ {
			c.Queue(KindFrame, body(n, 5000))
		}
		c.Flush()
	})
	take := func(n int) {
		t.Helper()
		if _, got, err := c.Recv(); err != nil || !bytes.Equal(got, body(n, 5000)) {
			t.Fatalf("message %d is %x…, %v", n, got[:2], err)
		}
	}
	for n := range poolSlots {
		take(n)
	}
	c.borrowed = false // as the next Recv would find it
	c.returned.Add(1)
	c.Send(KindFrame, nil)
	take(poolSlots)
	if c.borrowed {
		c.borrowed = false
		c.returned.Add(1)
	}
	c.Send(KindFrame, nil)
	time.Sleep(100 * time.Millisecond) // all that is to come is in memory or in the socket
	for n := poolSlots + 1; n < count+2; n++ {
		take(n)
	}
}

// TestNotShared: who does not ask for memory, or cannot be sent any, gets none.
func TestNotShared(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close()
	c, program := NewConn(far), NewConn(near)
	defer c.Close()
	for _, shared := range []bool{false, true} {
		go func() {
			c.SendOpened(Open{Peer: "node-b", Shared: shared})
			c.Send(KindFrame, body(1, 5000))
		}()
		if reply, err := program.RecvReply(); err != nil || !reply.OK || reply.Shared {
			t.Errorf("answered %+v, %v", reply, err)
		}
		if _, got, err := program.Recv(); err != nil || !bytes.Equal(got, body(1, 5000)) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	}
}

// TestLendAfterClose: the memory has gone, and nobody touches it.
func TestLendAfterClose(t *testing.T) {
	done := make(chan struct{})
	opened(t, func(c *Conn) {
		defer close(done)
		c.Close()
		if _, ok := c.Lend(body(1, 5000)); ok {
			t.Error("lent memory that has gone")
		}
	})
	<-done
}

// TestPoolIsReadOnly: a program can neither write to the memory nor take it away.
func TestPoolIsReadOnly(t *testing.T) {
	p, file, err := newPool()
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	defer file.Close()
	if err := file.Truncate(0); !errors.Is(err, os.ErrPermission) {
		t.Errorf("made shorter: %v", err)
	}
	if _, err := file.WriteAt([]byte("x"), 0); !errors.Is(err, os.ErrPermission) {
		t.Errorf("written to: %v", err)
	}
	if mem, err := unix.Mmap(int(file.Fd()), 0, slotSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err == nil {
		unix.Munmap(mem)
		t.Error("mapped for writing")
	}
	program, err := openPool(file)
	if err != nil {
		t.Fatal(err)
	}
	program.close()
	program.close()
}

// TestOpenPoolRefuses: memory that could become shorter would end the program.
func TestOpenPoolRefuses(t *testing.T) {
	for _, c := range []struct {
		name  string
		size  int64
		seals int
	}{{"no seals", poolSlots * slotSize, 0}, {"too short", slotSize, poolSeals}} {
		fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
		if err != nil {
			t.Fatal(err)
		}
		file := os.NewFile(uintptr(fd), "test")
		defer file.Close()
		if err := file.Truncate(c.size); err != nil {
			t.Fatal(err)
		}
		if _, err := unix.FcntlInt(file.Fd(), unix.F_ADD_SEALS, c.seals); err != nil {
			t.Fatal(err)
		}
		if _, err := openPool(file); !errors.Is(err, errPool) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestPoolMisuse: what either side says about the memory is checked.
func TestPoolMisuse(t *testing.T) {
	p := &pool{mem: make([]byte, poolSlots*slotSize), used: 2}
	for _, bad := range []struct {
		pool *pool
		kind Kind
		body string
	}{
		{p, kindRelease, "\x00\x03"},
		{p, kindRelease, "\x00"},
		{nil, kindRelease, "\x00\x00"},
		{p, kindPooled, "\x00\x20\x00\x01"},
		{p, kindPooled, "\x00\x00\x00"},
		{nil, kindPooled, "\x00\x00\x00\x01"},
	} {
		t.Run(fmt.Sprintf("%v %x", bad.kind, bad.body), func(t *testing.T) {
			near, far := net.Pipe()
			defer far.Close()
			c := NewConn(near)
			defer c.Close()
			c.lends.Store(bad.pool)
			c.borrows = bad.pool
			go io.WriteString(far, message(bad.kind, bad.body))
			if kind, got, err := c.Recv(); !errors.Is(err, errPool) {
				t.Errorf("received %v of %d bytes, %v", kind, len(got), err)
			}
		})
		if p.used != 2 {
			t.Fatalf("%d slots are used", p.used)
		}
		p.mem = make([]byte, poolSlots*slotSize)
	}
}
