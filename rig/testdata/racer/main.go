// Command racer loses a race now and then, for those who look for lost races.
//
//	racer serve ADDR   keeps a record up to date, shows it to the one who asks first, and ends
//	racer ask ADDR     asks once
//
// The record has two fields that are written one after the other, with real time between them, and should be the same. Whoever reads it in that time must
// wait; built with the tag race_lost nobody does, and sees a torn record if the request happens to come then. There is no chance in it but the
// moment at which a packet arrives: serve counts its periods from its own start, ask knows nothing of them.
//
// serve prints "racer: ready" when it can be asked, then one of
//
//	racer: consistent seq=12
//	racer: TORN seq=12 copy=11
//
// the first on standard output, the second on standard error. Exit status: 0 when the record was consistent, and of ask, when there was an answer; 1 when it was torn
// or nothing came of it, with the reason on standard error; 2 for wrong usage.
package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"
)

const (
	// The record is torn for one nap of naps. They are all of one length, so that it stays one in two where timers are late, as they are in emulated machines on a
	// busy host: a record that is torn for 2 ms of 10 was seen torn three times in five there.
	nap  = 10 * time.Millisecond
	naps = 2

	// patience ends what waits for the other side. It is long: machines that are recorded are slow, and whoever plays a scenario has a deadline of its own.
	patience = 5 * time.Minute

	// maxLine is more than any question and answer has.
	maxLine = 100
)

// A record has the same number twice, but while it is being written.
type record struct {
	mu        lock
	seq, copy uint64
}

// What a debugger may want to look at.
var (
	shared record
	torn   uint64 // how many torn records were seen; one is enough to fail
)

func main() {
	if len(os.Args) != 3 || os.Args[1] != "serve" && os.Args[1] != "ask" {
		fmt.Fprintln(os.Stderr, "usage: racer serve|ask ADDR")
		os.Exit(2)
	}
	do := ask
	if os.Args[1] == "serve" {
		do = serve
	}
	if err := do(os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "racer:", err)
		os.Exit(1)
	}
	if torn > 0 {
		os.Exit(1)
	}
}

// serve answers one question.
func serve(addr string) error {
	l, err := net.Listen("tcp4", addr)
	if err != nil {
		return err
	}
	defer l.Close()
	go shared.update()
	if err := l.(*net.TCPListener).SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	fmt.Println("racer: ready")
	conn, err := l.Accept()
	if err != nil {
		return fmt.Errorf("nobody asked: %w", err)
	}
	defer conn.Close()
	return answer(conn)
}

// answer reads the record when the question is there.
func answer(conn net.Conn) error {
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	var question [1]byte
	if _, err := io.ReadFull(conn, question[:]); err != nil {
		return fmt.Errorf("read the question of %s: %w", conn.RemoteAddr(), err)
	}
	seq, copy := shared.read()
	report(seq, copy)
	if _, err := fmt.Fprintf(conn, "seq=%d copy=%d\n", seq, copy); err != nil {
		return fmt.Errorf("answer %s: %w", conn.RemoteAddr(), err)
	}
	return nil
}

// update writes the record once in every period, and never ends.
func (r *record) update() {
	for {
		r.write(r.seq + 1)
		for range naps - 1 {
			time.Sleep(nap)
		}
	}
}

//go:noinline
func (r *record) write(n uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seq = n
	time.Sleep(nap)
	r.copy = n
}

//go:noinline
func (r *record) read() (seq, copy uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seq, r.copy
}

// report is where a torn record is seen.
//
//go:noinline
func report(seq, copy uint64) {
	if seq != copy {
		torn++
		fmt.Fprintf(os.Stderr, "racer: TORN seq=%d copy=%d\n", seq, copy)
		return
	}
	fmt.Printf("racer: consistent seq=%d\n", seq)
}

// ask prints the answer of a server.
func ask(addr string) error {
	conn, err := net.DialTimeout("tcp4", addr, patience)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte("?")); err != nil {
		return fmt.Errorf("ask %s: %w", addr, err)
	}
	line, err := io.ReadAll(io.LimitReader(conn, maxLine))
	if err != nil {
		return fmt.Errorf("read the answer of %s: %w", addr, err)
	}
	if !strings.HasSuffix(string(line), "\n") {
		return fmt.Errorf("the answer of %s is cut off: %q", addr, line)
	}
	fmt.Printf("racer: got %s", line)
	return nil
}
