package remotefs

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"dsoftbus-rig/nodes/localapi"
	"dsoftbus-rig/nodes/remotefs/remotefstest"
	"dsoftbus-rig/protocol/pk"
)

// losing is a server whose session is lost with the nth READ, the first count
// times that this one comes. change is called in between.
func losing(t *testing.T, content []byte, nth, count int, change func(s *remotefstest.Server)) *remotefstest.Server {
	t.Helper()
	var mu sync.Mutex
	reads := 0
	s := &remotefstest.Server{Files: map[string][]byte{"b/f": content}}
	var opened int
	s.Opened = func(localapi.Open) {
		mu.Lock()
		defer mu.Unlock()
		opened++
		reads = 0
		if opened == 2 && change != nil {
			change(s)
		}
	}
	s.Answer = func(request, honest []byte, send func([]byte)) {
		mu.Lock()
		if len(request) > 3 && pk.Op(request[3]) == pk.Read {
			reads++
		}
		lose, gone := reads == nth && opened <= count, reads > nth && opened <= count
		mu.Unlock()
		if lose {
			go s.Lose()
		}
		if lose || gone {
			return // answers that do not come are the last ones
		}
		send(honest)
	}
	return s.Start(t)
}

func reader(t *testing.T, s *remotefstest.Server, retries int) *Reader {
	t.Helper()
	r, err := OpenReader(testContext(t), s.Socket, "node-b", Options{Retries: retries, Chunk: 1000, Window: 4, Wait: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// A file arrives whole over two sessions, wherever the first one ends: in a chunk,
// at its border, before the first byte, when all but the end is known.
func TestCopyGoesOn(t *testing.T) {
	for _, size := range []int{0, 1, 999, 1000, 4500, 10_000} {
		content := random(size)
		for nth := 1; nth <= size/1000+1; nth++ {
			var got bytes.Buffer
			n, err := reader(t, losing(t, content, nth, 1, nil), 1).Copy(testContext(t), "pkg:/b/f", &got)
			if err != nil || n != int64(size) || !bytes.Equal(got.Bytes(), content) {
				t.Errorf("%d bytes, lost at READ %d: %d bytes, %v", size, nth, n, err)
			}
		}
	}
}

// Without being asked, and after as many times as asked, the loss is the end.
func TestCopyGivesUp(t *testing.T) {
	content := random(10_000)
	for _, retries := range []int{0, 1, 2} {
		var got bytes.Buffer
		n, err := reader(t, losing(t, content, 3, 9, nil), retries).Copy(testContext(t), "pkg:/b/f", &got)
		if !errors.Is(err, &localapi.Error{Code: localapi.CodeSessionLost}) || !strings.Contains(err.Error(), "node-b") {
			t.Errorf("%d retries: %v", retries, err)
		}
		if n != int64(got.Len()) || !bytes.HasPrefix(content, got.Bytes()) || n == 0 {
			t.Errorf("%d retries: %d bytes, and %d written", retries, n, got.Len())
		}
	}
}

// Two versions are never mixed: not of two sizes, and not of one.
func TestCopyOfAReplacedFile(t *testing.T) {
	old := random(10_000)
	other := bytes.Clone(old)
	other[10]++
	behind := bytes.Clone(old)
	behind[9_990]++
	for name, c := range map[string]struct {
		content []byte
		want    error
	}{
		"shorter":                         {old[:9_000], ErrReplaced},
		"longer":                          {append(bytes.Clone(old), 1), ErrReplaced},
		"other in what was read":          {other, ErrReplaced},
		"other behind what was read":      {behind, nil}, // all of it is the new one's
		"away":                            {nil, ErrReplaced},
		"the same":                        {old, nil},
		"shorter than what was read even": {old[:100], ErrReplaced},
	} {
		var got bytes.Buffer
		s := losing(t, old, 4, 1, func(s *remotefstest.Server) { s.Put("b/f", c.content) })
		_, err := reader(t, s, 1).Copy(testContext(t), "pkg:/b/f", &got)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if err == nil && !bytes.Equal(got.Bytes(), c.content) {
			t.Errorf("%s: got something else than what is there", name)
		}
		if err != nil && !bytes.HasPrefix(old, got.Bytes()) {
			t.Errorf("%s: got a mixture", name)
		}
		if n := s.Handles(); n != 0 {
			t.Errorf("%s: %d handles are open", name, n)
		}
	}
}

// STAT told one size and the content has another: shorter content in a new
// session is not the end of the old one's.
func TestCopyOfShorterContent(t *testing.T) {
	content := random(10_000)
	var mu sync.Mutex
	opened := 0
	s := &remotefstest.Server{Files: map[string][]byte{"b/f": content}}
	s.Opened = func(localapi.Open) { mu.Lock(); opened++; mu.Unlock() }
	s.Answer = func(request, honest []byte, send func([]byte)) {
		mu.Lock()
		defer mu.Unlock()
		off := uint32(0)
		if r, status := pk.ParseRequest(request, true, pk.DefaultLimits()); status == pk.OK && r.Op == pk.Read {
			off = r.Offset
		}
		switch {
		case opened == 1 && off == 5000:
			go s.Lose()
			return
		case opened == 1 && off > 5000:
			return
		case opened == 2 && off >= 2000:
			honest = pk.AppendReadResponse(nil, pk.OK, nil)
		}
		send(honest)
	}
	s.Start(t)
	var got bytes.Buffer
	_, err := reader(t, s, 1).Copy(testContext(t), "pkg:/b/f", &got)
	// How much was handed out when the session was lost is chance: an answer that was on its way may be lost with it.
	if !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, ErrReplaced) || got.Len() > 5000 || !bytes.HasPrefix(content, got.Bytes()) {
		t.Errorf("%d bytes, %v", got.Len(), err)
	}
}

// A verdict on the request is not asked for twice, and a server that breaks the
// protocol is not trusted again.
func TestWhatIsNotRetried(t *testing.T) {
	opened := 0
	s := &remotefstest.Server{Opened: func(localapi.Open) { opened++ }}
	s.Answer = func(request, honest []byte, send func([]byte)) {
		if bytes.Contains(request, []byte("broken")) {
			honest = []byte("what?")
		}
		send(honest)
	}
	s.Start(t)
	r := reader(t, s, 3)
	if _, err := r.Stat(testContext(t), "pkg:/b/none"); err == nil || lost(err) {
		t.Error(err)
	}
	if _, err := r.Stat(testContext(t), "pkg:/b/broken"); !errors.Is(err, ErrProtocol) {
		t.Error(err)
	}
	if opened != 1 {
		t.Errorf("opened %d times", opened)
	}
}

// A new session that does not come is waited for as long as it may take, and a Close
// ends it all.
func TestRetryWaits(t *testing.T) {
	s := propServer(t)
	r := reader(t, s, 1)
	s.Stop()
	begin := time.Now()
	if _, err := r.Stat(testContext(t), "pkg:/system/build.prop"); !lost(err) || !strings.Contains(err.Error(), "is it running?") {
		t.Error(err)
	}
	if took := time.Since(begin); took < time.Second || took > 10*time.Second {
		t.Errorf("gave up after %s", took)
	}
	s = propServer(t)
	r = reader(t, s, 1)
	ctx, cancel := context.WithCancel(testContext(t))
	cancel()
	// On a busy host the answer can be there before the caller waits for it; a
	// caller that has given up gets none of it. One try seldom shows it.
	for try := range 1000 {
		if _, err := r.Stat(ctx, "pkg:/system/build.prop"); !errors.Is(err, context.Canceled) {
			t.Fatalf("try %d: stat with an ended context: got %v, want %v", try, err, context.Canceled)
		}
	}
	r.Close()
	if _, err := r.Copy(testContext(t), "pkg:/system/build.prop", io.Discard); err == nil {
		t.Error("read after Close")
	}
}
