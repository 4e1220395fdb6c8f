package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"dsoftbus-rig/nodes/agentapi"
)

// put takes a file from a stream, aside, and renames it.
func put(stream io.Writer, in io.Reader, r agentapi.Request) {
	var p agentapi.Put
	err := decode(r, &p)
	dir := filepath.Dir(p.Path)
	if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	var aside *os.File
	if err == nil {
		aside, err = os.CreateTemp(dir, "."+filepath.Base(p.Path)+".*.rig")
	}
	if err != nil {
		_ = answer(stream, nil, err)
		return
	}
	defer os.Remove(aside.Name()) // is gone when it was renamed
	defer aside.Close()
	if answer(stream, nil, nil) != nil {
		return
	}
	err = drainFrames(in, aside)
	if err = errors.Join(err, aside.Chmod(p.Mode.Perm()), aside.Close()); err == nil {
		err = os.Rename(aside.Name(), p.Path)
	}
	_ = answer(stream, nil, err)
}

// drainFrames reads a file's frames to their end, even when w takes no more: whoever
// sends them reads nothing before.
func drainFrames(in io.Reader, w io.Writer) error {
	to := &lenient{w: w}
	for {
		kind, payload, err := agentapi.ReadFrame(in)
		switch {
		case err != nil:
			return fmt.Errorf("the file breaks off: %w", err)
		case kind == agentapi.FrameEnd:
			return to.err
		}
		_, _ = to.Write(payload)
	}
}

// get sends a file on a stream.
func get(stream io.Writer, r agentapi.Request) {
	var g agentapi.Get
	err := decode(r, &g)
	var f *os.File
	if err == nil {
		f, err = os.Open(g.Path)
	}
	var got agentapi.Got
	if err == nil {
		defer f.Close()
		var info os.FileInfo
		if info, err = f.Stat(); err == nil && info.IsDir() {
			err = fmt.Errorf("%s is a folder", g.Path)
		}
		if err == nil {
			got.Mode = info.Mode().Perm()
		}
	}
	if answer(stream, got, err) != nil || err != nil {
		return
	}
	sendFile(stream, f)
}

// sendFile sends the frames of a file.
func sendFile(stream io.Writer, from io.Reader) {
	out := agentapi.NewFrameWriter(stream)
	end := agentapi.Reply{}
	// Hidden, so that io.Copy does not ask the file to do it in larger pieces.
	if _, err := io.CopyBuffer(out.Stream(agentapi.FrameBytes), struct{ io.Reader }{from}, make([]byte, agentapi.MaxFrame)); err != nil {
		end.Error = err.Error()
	}
	if data, err := json.Marshal(end); err == nil {
		_ = out.WriteFrame(agentapi.FrameEnd, data)
	}
}
