// Package agent is the program that is the first of a machine of the rig after
// u-root's init. See package dsoftbus-rig/nodes/agent.
package agent

import (
	"context"
	"fmt"
	"io"

	"dsoftbus-rig/nodes/agent"
)

// Main is the whole program. It returns only when the machine is of no use any
// more.
func Main(ctx context.Context, _ []string, _, stderr io.Writer) int {
	// The kernel's console is the only way left to say why.
	fmt.Fprintln(stderr, "agent: cannot go on:", agent.Run(ctx))
	return 1
}
