package agent

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"strconv"
	"time"

	"dsoftbus-rig/nodes/agentapi"
)

// dialWait bounds a connection on the loopback interface. It is made or refused at once,
// unless as many wait to be accepted as may.
const dialWait = 5 * time.Second

// dial joins a stream and a connection to a TCP port of this machine, until both ways
// have ended, or the other side, or the connection to it, is gone.
func dial(ctx context.Context, stream io.Writer, in io.Reader, r agentapi.Request) {
	var c agentapi.Dial
	err := decode(r, &c)
	var conn net.Conn
	if err == nil {
		conn, err = (&net.Dialer{Timeout: dialWait}).DialContext(ctx, "tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(c.Port))))
	}
	if answer(stream, nil, err) != nil && conn != nil {
		conn.Close()
		return
	}
	if err != nil {
		return
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	gone := make(chan struct{})
	go func() { // ends with the stream, and so does the connection
		defer close(gone)
		defer conn.Close()
		forward(conn.(*net.TCPConn), in)
	}()
	out := agentapi.NewFrameWriter(stream)
	end := agentapi.Reply{}
	// Hidden, so that the connection is not asked to do it in its own way.
	_, err = io.CopyBuffer(struct{ io.Writer }{out.Stream(agentapi.FrameBytes)}, struct{ io.Reader }{conn}, make([]byte, agentapi.MaxFrame))
	if err != nil {
		end.Error = err.Error()
	}
	data, err := json.Marshal(end)
	if err == nil {
		err = out.WriteFrame(agentapi.FrameEnd, data)
	}
	if err != nil {
		return
	}
	// The other way goes on until the rig has had enough.
	<-gone
}

// forward writes what the rig sends to a connection. It reads on when the connection
// takes no more, since the stream's end is what says that the rig has gone.
func forward(conn *net.TCPConn, in io.Reader) {
	to := &lenient{w: conn}
	for {
		kind, payload, err := agentapi.ReadFrame(in)
		if err != nil {
			return
		}
		switch kind {
		case agentapi.FrameBytes:
			_, _ = to.Write(payload)
		case agentapi.FrameEnd:
			if err := conn.CloseWrite(); errors.Is(err, net.ErrClosed) {
				return
			}
		}
	}
}
