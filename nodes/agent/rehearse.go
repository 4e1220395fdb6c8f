package agent

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"time"

	"dsoftbus-rig/nodes/agentapi"
	"dsoftbus-rig/nodes/journal"
)

// rehearse plays the beginning of a connection once, with nobody and to no effect.
// What the first time costs (pages to be mapped, types to be learnt by package json,
// memory to be had) is then part of the machine that is saved, not of each clone.
func rehearse(ctx context.Context, network card) error {
	s := &Server{
		Journal:    journal.NewWriter(io.Discard, monotonic),
		Supervisor: NewSupervisor(),
		Configure:  network.rehearse,
	}
	near, far := net.Pipe()
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, far) }()
	err := play(near)
	near.Close()
	if end := <-served; err == nil && !errors.Is(end, io.EOF) {
		err = end
	}
	if err != nil {
		return fmt.Errorf("rehearse: %w", err)
	}
	// A clone then begins with as little garbage as can be.
	runtime.GC()
	return nil
}

// play makes the calls of a machine's start.
func play(conn net.Conn) error {
	in := bufio.NewReader(conn)
	for _, call := range []struct {
		method  string
		request any
	}{
		{agentapi.MethodInfo, nil},
		{agentapi.MethodConfigure, agentapi.Configure{
			Hostname: "node", MAC: "52:54:00:00:00:00", Address: "10.42.0.1/24", Clock: time.Now(),
			Entropy: make([]byte, minEntropy), Files: []agentapi.File{{Path: "/none", Mode: 0o600, Content: []byte("none")}},
		}},
	} {
		request, err := json.Marshal(call.request)
		if err != nil {
			return err
		}
		if err := json.NewEncoder(conn).Encode(agentapi.Opening{Method: call.method, Request: request}); err != nil {
			return err
		}
		line, err := in.ReadBytes('\n')
		if err != nil {
			return err
		}
		var reply agentapi.Reply
		if err := json.Unmarshal(line, &reply); err != nil {
			return err
		}
		if reply.Error != "" {
			return errors.New(reply.Error)
		}
	}
	return nil
}
