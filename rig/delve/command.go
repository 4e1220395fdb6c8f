package delve

import (
	"fmt"
	"strconv"
)

// ListeningLine is how the line begins that Delve prints when it can be connected to. It attaches only after that.
const ListeningLine = "API server listening at: "

// AttachArgs are Delve's arguments to debug a process of its machine, on a port of the machine's loopback address, for Attach.
func AttachArgs(pid int, port uint16) []string {
	return append([]string{"attach", strconv.Itoa(pid)}, serverArgs(port)...)
}

// serverArgs have Delve serve several clients, and leave it to Attach when the program goes on: with --continue nobody would be told when it stops, and a client
// that is early would never be answered.
func serverArgs(port uint16) []string {
	return []string{"--headless", "--accept-multiclient", "--api-version=2", fmt.Sprintf("--listen=127.0.0.1:%d", port)}
}
