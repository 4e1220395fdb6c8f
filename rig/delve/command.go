package delve

import (
	"fmt"
	"strconv"
	"time"
)

// ListeningLine is how the line begins that Delve prints when it can be connected to. It attaches only after that.
const ListeningLine = "API server listening at: "

// AttachArgs are Delve's arguments to debug a process of its machine, on a port of the machine's loopback address, for Attach.
func AttachArgs(pid int, port uint16) []string {
	return append([]string{"attach", strconv.Itoa(pid)}, serverArgs(port)...)
}

// AwaitArgs are Delve's arguments to debug the next process whose command line begins with program, from before its main function on: for Attach with
// stopped. The program is started after Delve has printed ListeningLine, and there must be none of it before. When there is none within the time, Delve ends with an error. It
// looks at each process once, so one that it sees before it has become the program, which takes it less than a millisecond, is missed: then start both again.
func AwaitArgs(program string, within time.Duration, port uint16) []string {
	// 5 ms: a program takes ten times that, emulated, until its main function.
	return append([]string{"attach", "--waitfor", program, "--waitfor-interval", "5", "--waitfor-duration", strconv.FormatInt(within.Milliseconds(), 10)}, serverArgs(port)...)
}

// serverArgs have Delve serve several clients, and leave it to Attach when the program goes on: with --continue nobody would be told when it stops, and a client
// that is early would never be answered.
func serverArgs(port uint16) []string {
	return []string{"--headless", "--accept-multiclient", "--api-version=2", fmt.Sprintf("--listen=127.0.0.1:%d", port)}
}
