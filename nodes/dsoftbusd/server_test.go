package dsoftbusd

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"testing"

	"dsoftbus-rig/nodes/packagefsd"
	"dsoftbus-rig/protocol/pk"
	"dsoftbus-rig/protocol/session"
)

// brokenFile is as long as it says only in its size.
type brokenFile struct {
	content string
	err     error
}

func (f brokenFile) ReadAt(p []byte, off int64) (int, error) {
	return copy(p, f.content[min(off, int64(len(f.content))):]), f.err
}
func (f brokenFile) Size() int64  { return 10 }
func (f brokenFile) Close() error { return nil }

type resolver func() (packagefsd.File, error)

func (r resolver) Resolve(context.Context, pk.Name) (packagefsd.File, error) { return r() }

// A file that is shorter than its size, or cannot be read, is IO: a short answer would pass for its end.
func TestBrokenFileIsIO(t *testing.T) {
	for name, f := range map[string]brokenFile{
		"ends early":          {"12345", io.EOF},
		"ends without a word": {"12345", nil},
		"fails":               {"1234567", errors.New("bad sector")},
		"changed":             {"", packagefsd.ErrChanged},
	} {
		var logged bytes.Buffer
		s := newServer(resolver(func() (packagefsd.File, error) { return f, nil }), DefaultLimits(), log.New(&logged, "", 0))
		ask := func(frame []byte) pk.Response {
			w := work{headLen: 4}
			w.request, w.status = pk.ParseRequest(frame, true, pk.DefaultLimits())
			answer, ok := s.answer(context.Background(), w, nil)
			r, err := pk.ParseResponse(answer)
			if err != nil || ok != (r.Status == pk.OK) {
				t.Fatalf("%s: %q, %t, %v", name, answer, ok, err)
			}
			return r
		}
		handle := ask(pk.AppendOpen(nil, "pkg:/a/f")).Handle
		for range 3 {
			if r := ask(pk.AppendRead(nil, handle, 0, 64)); r.Status != pk.IO || len(r.Data) != 0 {
				t.Errorf("%s: answered %+v", name, r)
			}
		}
		if n := bytes.Count(logged.Bytes(), []byte("\n")); n != 1 {
			t.Errorf("%s: complained %d times", name, n)
		}
		if r := ask(pk.AppendRead(nil, handle, 10, 64)); r.Status != pk.OK || len(r.Data) != 0 {
			t.Errorf("%s: at its end %+v", name, r)
		}
	}
}

func TestServingAReadAllocatesNothing(t *testing.T) {
	store := newStore(map[string][]byte{"a/f": noise(1<<16, 1)})
	s := newServer(store, DefaultLimits(), log.New(io.Discard, "", 0))
	defer s.release()
	open, _ := pk.ParseRequest(pk.AppendOpen(nil, "pkg:/a/f"), true, pk.DefaultLimits())
	s.answer(context.Background(), work{request: open}, nil)
	frame, room := pk.AppendRead(nil, 1, 0, 32768), make([]byte, 0, session.MaxPayload)
	if n := testing.AllocsPerRun(100, func() {
		w := work{}
		w.request, w.status = pk.ParseRequest(frame, true, pk.DefaultLimits())
		if _, ok := s.answer(context.Background(), w, room); !ok {
			t.Fatal("not served")
		}
	}); n > 0 {
		t.Errorf("%.0f allocations for each READ", n)
	}
}
