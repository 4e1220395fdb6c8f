package dsoftbusd

import (
	"dsoftbus-rig/nodes/packagefsd"
)

// handles are the open files of one session.
type handles struct {
	max  int
	next uint32
	open map[uint32]packagefsd.File
}

func newHandles(max int) *handles {
	return &handles{max: max, next: 1, open: make(map[uint32]packagefsd.File)}
}

// add gives a file the next handle: 1, 2, 3, … A value is used again only after all others were. It fails when as many
// files are open as may be.
func (h *handles) add(f packagefsd.File) (uint32, bool) {
	if len(h.open) >= h.max {
		return 0, false
	}
	for h.next == 0 || h.open[h.next] != nil {
		h.next++
	}
	handle := h.next
	h.next++
	h.open[handle] = f
	return handle, true
}

// get gives the handle's file, or nil.
func (h *handles) get(handle uint32) packagefsd.File { return h.open[handle] }

// remove takes the handle's file out, or gives nil. The caller closes it.
func (h *handles) remove(handle uint32) packagefsd.File {
	f := h.open[handle]
	delete(h.open, handle)
	return f
}

// release closes every file.
func (h *handles) release() {
	for handle, f := range h.open {
		f.Close()
		delete(h.open, handle)
	}
}
