package capture

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

const (
	// writeSize is what goes to the disk with one system call: a write for each frame would take longer than the frame.
	writeSize = 256 << 10
	// reserve is room kept below the limit for what closes the file.
	reserve = 4 << 10
	// maxInterfaces bounds what an interface at the end costs; a scenario has a few nodes.
	maxInterfaces = 32
)

// A file is a pcapng file of Ethernet frames, which has one goroutine at a time.
type file struct {
	f     *os.File
	out   *bufio.Writer
	ng    *pcapgo.NgWriter
	limit int64
	size  int64
	ids   map[string]int // of interfaces
	seen  []uint64       // frames by interface
	dirty bool           // something was written since the last flush
	full  bool
	err   error // the first one; nothing is written after it
	stats Stats
}

// create makes the file. It must not exist.
func create(path string, limit int64) (*file, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, err
	}
	w := &file{f: f, out: bufio.NewWriterSize(f, writeSize), limit: limit, ids: map[string]int{RigInterface: 0}, seen: []uint64{0}, dirty: true}
	w.ng, err = pcapgo.NewNgWriterInterface(w.out, ethernet(RigInterface), pcapgo.NgWriterOptions{SectionInfo: pcapgo.NgSectionInfo{
		Hardware: runtime.GOARCH, OS: runtime.GOOS, Application: "dsoftbus-rig",
		Comment: "Each frame once, on the interface of whoever sent it, as it entered the network: before any fault of the network.",
	}})
	if err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(path))
	}
	w.size = reserve
	return w, nil
}

func ethernet(name string) pcapgo.NgInterface {
	return pcapgo.NgInterface{Name: name, LinkType: layers.LinkTypeEthernet, TimestampResolution: 9}
}

// padded is how much room n bytes take in a block.
func padded(n int) int64 { return int64(n+3) &^ 3 }

// frame adds a frame of length bytes, of which data is there, with the comments that wait.
func (w *file) frame(name string, at time.Time, data []byte, length int, waiting *notes) {
	size := 32 + padded(len(data))
	if w.full || w.err != nil || w.size+size > w.limit {
		w.full = true
		w.stats.Unwritten++
		w.stats.UnwrittenBytes += uint64(length)
		return
	}
	comments := waiting.take()
	for i, c := range comments {
		room := 4 + padded(len(c))
		if w.size+size+room+4 > w.limit {
			comments = comments[:i]
			break
		}
		size += room
	}
	if len(comments) > 0 {
		size += 4
	}
	id, known := w.ids[name]
	if !known {
		if len(w.ids) == maxInterfaces {
			w.err = fmt.Errorf("more than %d interfaces", maxInterfaces)
			return
		}
		id, w.err = w.ng.AddInterface(ethernet(name))
		w.ids[name] = id
		w.seen = append(w.seen, 0)
		size += 64
	}
	w.put(id, at, data, length, comments)
	w.size += size
	if w.err == nil {
		w.seen[id]++
		w.stats.Frames++
	}
}

func (w *file) put(id int, at time.Time, data []byte, length int, comments []string) {
	if w.err != nil {
		return
	}
	w.dirty = true
	info := gopacket.CaptureInfo{Timestamp: at, CaptureLength: len(data), Length: max(length, len(data)), InterfaceIndex: id}
	w.err = w.ng.WritePacketWithOptions(info, data, pcapgo.NgPacketOptions{Comments: comments})
}

// flush has all that was written reach the file.
func (w *file) flush() {
	if w.err != nil || !w.dirty {
		return
	}
	w.dirty = false
	if w.err = w.ng.Flush(); w.err == nil {
		w.err = w.out.Flush()
	}
}

// close closes the file. What there is still to say goes to an empty frame: comments that no frame followed, and what is missing.
func (w *file) close(began time.Time, stats Stats, waiting *notes) error {
	last := stats.Warnings()
	room := reserve / 2
	for _, text := range waiting.take() {
		if room -= 4 + int(padded(len(text))); room < 0 && w.full {
			break
		}
		last = append(last, text)
	}
	now := time.Now()
	if len(last) > 0 {
		w.put(0, now, nil, 0, last)
	}
	for id, frames := range w.seen {
		if w.err != nil {
			break
		}
		w.dirty = true
		w.err = w.ng.WriteInterfaceStats(id, pcapgo.NgInterfaceStatistics{
			LastUpdate: now, StartTime: began, EndTime: now, PacketsReceived: frames, PacketsDropped: pcapgo.NgNoValue64,
		})
	}
	w.flush()
	return errors.Join(w.err, w.f.Close())
}
