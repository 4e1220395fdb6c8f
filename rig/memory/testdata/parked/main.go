// Command parked has goroutines that stand in all ways there are. It writes how Go itself prints them to the file that its argument names, and then
// "ready" to its output.
package main

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// What never comes.
var (
	never = make(chan int)
	mu    sync.Mutex
)

type box[T any] struct{ held T }

//go:noinline
func (b *box[T]) waits(c chan T) { b.held = <-c }

func inlined(c chan int) int { return <-c + 1 }

//go:noinline
func outer(c chan int) int { return inlined(c) }

//go:noinline
func deep(n int) int {
	if n == 0 {
		return <-never
	}
	return deep(n-1) + 1
}

//go:noinline
func locked() {
	runtime.LockOSThread()
	<-never
}

//go:noinline
func reads(fd int) {
	var b [1]byte
	_, _ = syscall.Read(fd, b[:])
}

var spun int

//go:noinline
func spins(begun chan bool) {
	close(begun)
	for {
		spun++
	}
}

type closer struct{}

func (closer) Close() error { panic("deferred") }

//go:noinline
func panics() {
	defer func() {
		_ = recover()
		<-never
	}()
	var c closer
	_ = c.Close()
}

func main() {
	var pipe [2]int
	if err := syscall.Pipe(pipe[:]); err != nil {
		panic(err)
	}
	mu.Lock()
	go (&box[int]{}).waits(never)
	go outer(never)
	go deep(150)
	go locked()
	go reads(pipe[0])
	go panics()
	go func() { mu.Lock() }()
	go time.Sleep(24 * time.Hour)
	go func() { select {} }()
	if err := os.WriteFile(os.Args[1], told(), 0o600); err != nil {
		panic(err)
	}
	begun := make(chan bool)
	go spins(begun)
	<-begun
	fmt.Println("ready")
	<-never
}

// told is how Go prints all goroutines, when all others stand.
func told() []byte {
	text := make([]byte, 1<<20)
	for {
		all := text[:runtime.Stack(text, true)]
		if !bytes.Contains(all, []byte("[runnable")) && bytes.Count(all, []byte("[running]")) == 1 {
			return all
		}
		runtime.Gosched()
	}
}
