package node

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"slices"
	"time"

	"dsoftbus-rig/nodes/agentapi"
)

// reloadDir is where programs lie in a machine that took the place of those it started with.
const reloadDir = "/run/reload"

// Reload replaces a program of the node by that of another binary of all programs, a file of the host, and starts it again, with the arguments it
// had, if it runs as a service. digest is the binary's: what is there already is not copied again. It says what it did.
func (w *World) Reload(ctx context.Context, name, program, binary, digest string) (said string, err error) {
	err = w.on(name, func(n *Node) error {
		said, err = n.reload(ctx, program, binary, digest)
		return err
	})
	return said, err
}

func (n *Node) reload(ctx context.Context, program, binary, digest string) (string, error) {
	since := time.Now()
	inside := path.Join(reloadDir, digest[:16], filepath.Base(binary))
	what := "unchanged since it was last reloaded"
	l, err := n.alive()
	if err != nil {
		return "", err
	}
	if l.reloaded != digest {
		what = "copied"
		if err := n.Push(ctx, binary, inside); err != nil {
			return "", err
		}
		l.reloaded = digest
	}
	var complaint bytes.Buffer
	status, err := n.Exec(ctx, []string{"ln", "-s", "-f", inside, "/bin/" + program}, io.Discard, &complaint)
	if err == nil && status != 0 {
		err = fmt.Errorf("node %s: link /bin/%s to %s: exit status %d: %s", n.name, program, inside, status, bytes.TrimSpace(complaint.Bytes()))
	}
	if err != nil {
		return "", err
	}
	services, err := n.Services(ctx)
	if err != nil {
		return "", err
	}
	runs := slices.ContainsFunc(services, func(s agentapi.Service) bool { return s.Name == program && s.Supervised && s.Running })
	if runs {
		if err := n.Restart(ctx, program, ""); err != nil {
			return "", err
		}
		what += ", started again"
	}
	return fmt.Sprintf("%s on %s: %s, in %s", program, n.name, what, time.Since(since).Round(time.Millisecond)), nil
}
