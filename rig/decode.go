package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"dsoftbus-rig/rig/console"
	"dsoftbus-rig/rig/decode"
	"dsoftbus-rig/rig/record"
	"dsoftbus-rig/rig/suite"

	"github.com/spf13/cobra"
)

// decodeFlags are the flags of `rig decode`.
type decodeFlags struct {
	keyLog string
	hex    bool
	json   bool
	runs   string
}

func newDecodeCommand() *cobra.Command {
	var f decodeFlags
	cmd := &cobra.Command{
		Use:   "decode [FILE|RUN]",
		Short: "Show a capture: who sent what to whom, when",
		Long: `Decode shows captures line by line: ARP, announces, how TCP connections begin and
end, handshake messages and records by their length, and what the scenario did
meanwhile. What is malformed is shown with what its decoder says. A sum by direction
comes last. Times are of the host's clock, in UTC, as those of events.jsonl.

It takes a capture, a folder, or the name of a run in runs, of which it shows every
capture; without one, the latest run.

With -keylog, or a keys.log beside the capture (see rig run -keylog), sessions are
opened: each request, and each answer with its status.

With -hex it reads frames in hexadecimal, one a line, from a file or stdin, and
prints a line about each: an announce, a request (or why it is rejected), or an
answer. Empty lines, and those that begin with #, are left out.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			arg := ""
			if len(args) == 1 {
				arg = args[0]
			}
			if f.hex {
				return decodeHex(cmd, f, arg)
			}
			return classify(cmd.Context(), decodeCaptures(cmd, f, arg))
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.keyLog, "keylog", "", "`FILE` with the sessions' keys (default: "+record.KeysFile+" beside the capture, if there is one)")
	flags.BoolVar(&f.hex, "hex", false, "read frames in hexadecimal, one a line, in place of captures")
	flags.BoolVar(&f.json, "json", false, "write each capture as one JSON object a line")
	flags.StringVar(&f.runs, "runs", "", "`FOLDER` of the records (default: runs in the project's folder)")
	return cmd
}

// decodeHex decodes the lines of a file, or of stdin.
func decodeHex(cmd *cobra.Command, f decodeFlags, file string) error {
	if f.keyLog != "" || f.json {
		return usage("decode -hex: single frames have no keys and no other form; leave -keylog and -json out")
	}
	in := cmd.InOrStdin()
	if file != "" && file != "-" {
		opened, err := os.Open(file)
		if err != nil {
			return usage("decode -hex: %w", err)
		}
		defer opened.Close()
		in = opened
	}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20) // far above the longest frame, 65,515 bytes
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		text, err := decode.Hex(line)
		if err != nil {
			return usage("decode -hex: line %d: %w", n, err)
		}
		if _, err := fmt.Fprintln(cmd.OutOrStdout(), console.Clean(text)); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return usage("decode -hex: read frames: %w", err)
	}
	return nil
}

func decodeCaptures(cmd *cobra.Command, f decodeFlags, arg string) error {
	files, err := f.find(cmd, arg)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(cmd.OutOrStdout())
	for i, file := range files {
		keys, err := f.keysOf(file)
		if err != nil {
			return err
		}
		c, err := decode.File(file, keys)
		if err != nil {
			return usage("%w", err)
		}
		if f.json {
			err = json.NewEncoder(out).Encode(struct {
				File string `json:"file"`
				*decode.Capture
			}{file, c})
		} else {
			if len(files) > 1 {
				fmt.Fprintf(out, "%s%s\n", strings.Repeat("\n", min(i, 1)), console.Clean(suite.Shown(file)))
			}
			err = printCapture(out, c)
		}
		if err != nil {
			return err
		}
	}
	return out.Flush()
}

// find returns the captures that an argument means.
func (f *decodeFlags) find(cmd *cobra.Command, arg string) ([]string, error) {
	root := f.runs
	if root == "" && (arg == "" || !exists(arg)) {
		dir, err := project(cmd)
		if err != nil {
			return nil, usage("%w", err)
		}
		root = filepath.Join(dir, "runs")
	}
	place, err := runFolder(root, arg)
	if err != nil {
		return nil, usage("decode: %w", err)
	}
	var files []string
	err = filepath.WalkDir(place, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if path != place && d.Name() == record.CaptureFile {
			name, err := filepath.Rel(place, path)
			if err == nil {
				_, err = record.Inside(place, filepath.ToSlash(name))
			}
			if err != nil {
				return err
			}
		}
		if path == place && !d.IsDir() || d.Name() == record.CaptureFile {
			files = append(files, path)
		}
		return nil
	})
	if err != nil {
		return nil, usage("decode: %w", err)
	}
	if len(files) == 0 {
		return nil, usage("decode: no capture in %s: scenarios that are green lose theirs, unless the run was told -capture always", suite.Shown(place))
	}
	return files, nil
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// keysOf returns the keys for a capture.
func (f *decodeFlags) keysOf(capture string) ([]decode.Keys, error) {
	file := f.keyLog
	if file == "" {
		file = filepath.Join(filepath.Dir(capture), record.KeysFile)
	}
	keys, err := decode.KeyLog(file)
	if f.keyLog == "" && errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, usage("%w", err)
	}
	return keys, nil
}

// printCapture prints a capture for people.
func printCapture(w io.Writer, c *decode.Capture) error {
	whom := 6
	for _, p := range c.Packets {
		whom = max(whom, len(direction(p.From, p.To)))
	}
	for _, p := range c.Packets {
		text := console.Clean(p.Text)
		if p.Malformed != "" {
			text += "  MALFORMED: " + console.Clean(p.Malformed)
		}
		if p.Kind == decode.Note {
			fmt.Fprintf(w, "%s  -- %s\n", p.Time.UTC().Format(packetClock), text)
			continue
		}
		if _, err := fmt.Fprintf(w, "%s  %-*s  %s\n", p.Time.UTC().Format(packetClock), whom, console.Clean(direction(p.From, p.To)), text); err != nil {
			return err
		}
	}
	fmt.Fprintf(w, "%d frames\n", c.Frames)
	for _, n := range c.Counts {
		fmt.Fprintf(w, "%-*s  %s\n", whom, console.Clean(direction(n.From, n.To)), counted(n))
	}
	if c.Cut != "" {
		fmt.Fprintf(w, "the file ends in the middle: %s\n", c.Cut)
	}
	return nil
}

// packetClock has microseconds: what answers what is told by less than milliseconds.
const packetClock = "15:04:05.000000"

func direction(from, to string) string { return from + " -> " + to }

func counted(n decode.Count) string {
	parts := []string{fmt.Sprintf("%d frames", n.Frames), fmt.Sprintf("%d bytes", n.Bytes)}
	for _, c := range []struct {
		n    int
		what string
	}{
		{n.ARP, "arp"}, {n.Announces, "announces"}, {n.SYN, "syn"}, {n.SYNACK, "syn-ack"}, {n.FIN, "fin"}, {n.RST, "rst"},
		{n.Handshakes, "handshake messages"}, {n.Records, "records"}, {n.Malformed, "malformed"},
	} {
		if c.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", c.n, c.what))
		}
	}
	return strings.Join(parts, ", ")
}
