package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"dsoftbus-rig/rig/record"
)

// keyLogFile is where dsoftbusd writes the keys of its sessions on a node, if it was asked to.
const keyLogFile = "/run/dsoftbusd.keys"

// keysWait is how long a node may take to hand over its keys, before scaling.
const keysWait = 2 * time.Second

// withKeyLog returns the arguments of a service with what makes it write a key log.
func (n *Node) withKeyLog(program string, args []string) []string {
	if !n.world.cfg.KeyLog || program != "dsoftbusd" {
		return args
	}
	n.mu.Lock()
	n.keyed = true
	n.mu.Unlock()
	return append([]string{"-keylog", keyLogFile}, args...)
}

// Keys collects the key logs of all nodes that answer in one file, each session once: both of its ends have its keys, so that a node which does
// not answer is seldom missed. Without KeyLog it does nothing. It is called before the nodes go down; its error is of a file that could not be written, or
// of nodes of which none answered.
func (w *World) Keys(ctx context.Context, file string) error {
	if !w.cfg.KeyLog {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, time.Duration(float64(keysWait)*w.cfg.Slowdown), errors.New("the key logs were not collected in time"))
	defer cancel()
	nodes := w.all()
	logs, errs := make([][]byte, len(nodes)), make([]error, len(nodes))
	var asking sync.WaitGroup
	for i, n := range nodes {
		// Side by side, so that one that does not answer takes no time from the others.
		asking.Go(func() { logs[i], errs[i] = n.keyLog(ctx) })
	}
	asking.Wait()
	seen := map[string]bool{}
	var all bytes.Buffer
	for _, lines := range logs {
		for line := range strings.Lines(string(lines)) {
			if !seen[line] {
				seen[line] = true
				all.WriteString(line)
			}
		}
	}
	if err := errors.Join(errs...); err != nil && all.Len() == 0 {
		return fmt.Errorf("collect the keys of sessions: %w", err)
	}
	if err := os.WriteFile(file, all.Bytes(), 0o600); err != nil {
		return fmt.Errorf("collect the keys of sessions: %w", err)
	}
	return nil
}

// keyLog returns a node's key log, nothing where its dsoftbusd was never started.
func (n *Node) keyLog(ctx context.Context) ([]byte, error) {
	n.mu.Lock()
	keyed := n.keyed
	n.mu.Unlock()
	if !keyed {
		return nil, nil
	}
	if err := n.ready(); err != nil {
		return nil, err
	}
	// Beside the others, not in the folder for temporary files: it is a secret.
	dir, err := os.MkdirTemp(filepath.Dir(n.files.Journal), ".keys-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, record.KeysFile)
	if err := n.Pull(ctx, keyLogFile, file); err != nil {
		return nil, fmt.Errorf("node %s: %w", n.name, err)
	}
	return os.ReadFile(file)
}
