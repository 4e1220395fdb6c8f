package agent

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"testing"

	"dsoftbus-rig/nodes/agentapi"
)

// A pushed is a file on its way to the agent.
type pushed struct {
	t    *testing.T
	to   *agentapi.FrameWriter
	pipe *io.PipeWriter
	done chan struct{} // closed when put has returned
}

func requestPut(t *testing.T, path string, mode os.FileMode) agentapi.Request {
	t.Helper()
	args, err := json.Marshal(agentapi.Put{Path: path, Mode: mode})
	if err != nil {
		t.Fatal(err)
	}
	return agentapi.Request{Method: agentapi.MethodPut, Args: args}
}

// push begins to push a file over path.
func push(t *testing.T, path string, mode os.FileMode) *pushed {
	t.Helper()
	in, pipe := io.Pipe()
	p := &pushed{t: t, to: agentapi.NewFrameWriter(pipe), pipe: pipe, done: make(chan struct{})}
	r := requestPut(t, path, mode)
	go func() {
		defer close(p.done)
		put(io.Discard, in, r)
		in.Close()
	}()
	return p
}

// frame sends one frame. When it returns, put has written the frames before it.
func (p *pushed) frame(kind byte, payload string) {
	p.t.Helper()
	if err := p.to.WriteFrame(kind, []byte(payload)); err != nil {
		p.t.Fatal(err)
	}
}

func check(t *testing.T, when, path, want string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || string(got) != want {
		t.Errorf("%s the file is %.40q, %v; want %.40q", when, got, err, want)
	}
}

// TestPutReplacesAtOnce: whoever opens the file while it is being pushed gets
// the old one, whoever has it open keeps it, and afterwards it is the new one,
// whole.
func TestPutReplacesAtOnce(t *testing.T) {
	dir := t.TempDir()
	path := write(t, filepath.Join(dir, "file"), "the old content")
	open, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()

	p := push(t, path, 0o640)
	p.frame(agentapi.FrameBytes, "the new ")
	p.frame(agentapi.FrameBytes, "content")
	check(t, "in the middle of a push", path, "the old content")
	p.frame(agentapi.FrameBytes, ", which is longer")
	check(t, "near the end of a push", path, "the old content")
	p.frame(agentapi.FrameEnd, "{}")
	<-p.done
	check(t, "after a push", path, "the new content, which is longer")
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("its mode is %v, %v", info.Mode(), err)
	}
	if got, err := io.ReadAll(open); err != nil || string(got) != "the old content" {
		t.Errorf("who had it open reads %q, %v", got, err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("beside it there is %v, %v", left, err)
	}
}

// TestPutBreaksOff: a push that ends in the middle changes nothing and leaves
// nothing.
func TestPutBreaksOff(t *testing.T) {
	for name, content := range map[string]string{"over a file": "the old content", "as a new file": ""} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "file")
			if content != "" {
				write(t, path, content)
			}
			p := push(t, path, 0o644)
			p.frame(agentapi.FrameBytes, "the new content")
			p.pipe.Close()
			<-p.done
			if content != "" {
				check(t, "after half a push", path, content)
				os.Remove(path)
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
				t.Errorf("left over: %v, %v", left, err)
			}
		})
	}
}

// TestPutRefuses: a path at which there can be no file is told at once, before
// anything is sent.
func TestPutRefuses(t *testing.T) {
	path := write(t, filepath.Join(t.TempDir(), "file"), "old")
	var answers bytes.Buffer
	put(&answers, bytes.NewReader(nil), requestPut(t, filepath.Join(path, "below"), 0o644))
	if !bytes.Contains(answers.Bytes(), []byte("not a directory")) {
		t.Errorf("below a file the answer is %q", &answers)
	}
}
