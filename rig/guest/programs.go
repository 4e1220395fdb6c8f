package guest

import (
	"bytes"
	"context"
	"time"

	"dsoftbus-rig/nodes/agentapi"
)

// maxStacks bounds what a program says of its goroutines, in bytes.
const maxStacks = 64 << 20

// Stacks returns the goroutines of a running program of the rig's as text; it runs on
// undisturbed. agentapi.AgentUnit is the agent itself.
func (c *Client) Stacks(ctx context.Context, program string) ([]byte, error) {
	return await(ctx, func() ([]byte, error) {
		s, _, err := c.request(agentapi.MethodStacks, agentapi.Stacks{Program: program})
		if err != nil {
			return nil, err
		}
		defer s.abandon()
		stop := context.AfterFunc(ctx, func() { _ = s.Close() })
		defer stop()
		var text bytes.Buffer
		err = c.receive(s, &text, maxStacks, "goroutines of "+program)
		if err != nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return text.Bytes(), err
	})
}

// Services returns what became of each service, by name, and then the programs that
// are being run by Exec.
func (c *Client) Services(ctx context.Context) ([]agentapi.Service, error) {
	var all []agentapi.Service
	err := c.Call(ctx, agentapi.MethodServices, nil, &all)
	return all, err
}

// Restart starts a service again, with the arguments it had last: as the program file,
// or as the one it was when that is empty. When it runs it is stopped first, within
// that time.
func (c *Client) Restart(ctx context.Context, program, file string, within time.Duration) error {
	return c.Call(ctx, agentapi.MethodRestart, agentapi.Restart{Program: program, File: file, Within: within}, nil)
}

// Coverage has the programs of a machine that count write their counters, and returns what there is to be pulled from agentapi.CoverageDir.
func (c *Client) Coverage(ctx context.Context) (agentapi.Coverage, error) {
	var out agentapi.Coverage
	err := c.Call(ctx, agentapi.MethodCoverage, nil, &out)
	return out, err
}
