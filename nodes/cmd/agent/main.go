// Command agent is the first program of a machine of the rig after u-root's
// init. See package dsoftbus-rig/nodes/agent.
package main

import (
	"context"
	"fmt"
	"os"

	"dsoftbus-rig/nodes/agent"
)

func main() {
	// The kernel's console is the only way left to say why.
	fmt.Fprintln(os.Stderr, "agent: cannot go on:", agent.Run(context.Background()))
	os.Exit(1)
}
