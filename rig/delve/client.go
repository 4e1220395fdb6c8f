package delve

import (
	"fmt"
	"io"
	"slices"
)

// maxPending is how many requests of a client may wait for their answers; clients have a handful.
const maxPending = 4096

// A client is one connection. All but session is guarded by the session's lock.
type client struct {
	session *Session

	spoke   bool // it has said something
	gone    bool // it has hung up
	strange bool // what it or Delve says to it is not understood
	asks    reader
	answers reader
	pending map[string]bool // requests without an answer, by id, and whether each lets the program run
	runs    bool            // DAP: the program runs until an event says that it does not
}

// resumed reports whether the program runs because the client wants it to.
func (c *client) resumed() bool {
	if c.runs {
		return true
	}
	for _, resumes := range c.pending {
		if resumes {
			return true
		}
	}
	return false
}

// pass passes on what the client says until either side hangs up, which is no error. What is said is looked at before it is passed on.
func (c *client) pass(conn io.Reader, server io.Writer) error {
	buf := make([]byte, chunk)
	for {
		n, err := conn.Read(buf)
		if n > 0 {
			if err := c.session.change(func() { c.understand(c.asked, buf[:n]) }); err != nil {
				return err
			}
			if _, err := server.Write(buf[:n]); err != nil {
				return nil
			}
		}
		if err != nil {
			return nil
		}
	}
}

// answer passes on what Delve says until that hangs up, or until the client has gone and waits for nothing any more.
func (c *client) answer(server io.Reader, conn io.WriteCloser) error {
	buf := make([]byte, chunk)
	for {
		n, err := server.Read(buf)
		var done bool
		if n > 0 {
			if err := c.session.change(func() {
				c.understand(c.answered, buf[:n])
				done = c.gone && !c.resumed()
			}); err != nil {
				return err
			}
			if _, err := conn.Write(buf[:n]); err != nil {
				conn.Close() // by which the other direction knows
			}
		}
		if err != nil || done {
			return nil
		}
	}
}

// understand looks at a chunk, unless an earlier one was not understood.
func (c *client) understand(look func([]byte) error, b []byte) {
	if !c.strange && look(b) != nil {
		c.strange = true
	}
}

// asked sees what the client says.
func (c *client) asked(b []byte) error {
	if !c.spoke {
		// As Delve tells them apart.
		c.spoke = true
		c.asks.dap = b[0] == 'C'
		c.answers.dap = c.asks.dap
	}
	return messages(&c.asks, b, func(m map[string]string) error {
		id, resumes := m["id"], resumesRPC(m)
		if c.asks.dap {
			if m["type"] != "request" {
				return nil
			}
			id = m["seq"]
			// It is answered at once; an event says when the program has stopped.
			c.runs = c.runs || resumesDAP(m["command"])
			resumes = false
		} else if m["method"] == "RPCServer.GetEvents" {
			return nil // is answered when something happens, so nothing is waited for
		}
		if id == "" || len(id) == maxValue || len(c.pending) == maxPending {
			return fmt.Errorf("%w: a request without a usable id", errStrange)
		}
		c.pending[id] = resumes
		return nil
	})
}

// answered sees what Delve says to the client.
func (c *client) answered(b []byte) error {
	if !c.spoke {
		return fmt.Errorf("%w: Delve speaks first", errStrange)
	}
	return messages(&c.answers, b, func(m map[string]string) error {
		s := c.session
		switch {
		case !c.answers.dap:
			if c.pending[m["id"]] && (m["result.State.exited"] == "true" || hasExited(m["error"])) {
				s.over = true
			}
			delete(c.pending, m["id"])
		case m["type"] == "response":
			delete(c.pending, m["request_seq"])
			if m["success"] == "false" && resumesDAP(m["command"]) {
				c.runs = false
			}
		case m["type"] == "event":
			switch m["event"] {
			case "stopped":
				c.runs = false
			case "continued":
				c.runs = true
			case "exited":
				s.over = true
			}
		}
		return nil
	})
}

// messages has every message that ends in b looked at.
func messages(r *reader, b []byte, look func(map[string]string) error) error {
	for len(b) > 0 {
		n, values, err := r.next(b)
		if err == nil && values != nil {
			err = look(values)
		}
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// resumesRPC reports whether a request of JSON-RPC lets the program run until it is answered. A command that is not known is taken to.
func resumesRPC(m map[string]string) bool {
	return m["method"] == "RPCServer.Detach" ||
		m["method"] == "RPCServer.Command" && !slices.Contains([]string{"halt", "switchThread", "switchGoroutine"}, m["params.0.name"])
}

// resumesDAP reports whether a request of DAP lets the program run until an event says that it has stopped. At the end of its configuration a client that
// wants the program to stand is told so by such an event.
func resumesDAP(command string) bool {
	return slices.Contains([]string{"continue", "next", "stepIn", "stepOut", "stepBack", "reverseContinue", "configurationDone", "restart", "goto", "restartFrame"}, command)
}
