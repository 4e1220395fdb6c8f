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
	if err := agent.Run(context.Background()); err != nil {
		// The kernel's console is the only way left to say it.
		fmt.Fprintln(os.Stderr, "agent: cannot go on:", err)
		os.Exit(1)
	}
}
