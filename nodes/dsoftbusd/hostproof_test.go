package dsoftbusd

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dsoftbus-rig/nodes/localapi"
	"dsoftbus-rig/nodes/remotefs"
	"dsoftbus-rig/protocol/nxsb"
	"dsoftbus-rig/protocol/pk"
	"dsoftbus-rig/protocol/session"
)

// The tests of this file run two whole nodes in one process, over real sockets on 127.0.0.1 and the client library.

const buildProp = "ro.nexus.build=dev\n"

// noise makes content in which no block is like another.
func noise(size int, seed uint64) []byte {
	b := make([]byte, size)
	var key [32]byte
	key[0] = byte(seed)
	rand.NewChaCha8(key).Read(b)
	return b
}

func TestSmallFile(t *testing.T) {
	ctx, a, b := twoMachines(t, map[string][]byte{"system/build.prop": []byte(buildProp), "system@1.0.0/build.prop": []byte("old\n"), "system/empty": nil})
	c := a.open(ctx, t, "node-b")
	for path, want := range map[string]string{
		"pkg:/system/build.prop":       buildProp,
		"/packages/system/build.prop":  buildProp,
		"pkg:/system@1.0.0/build.prop": "old\n",
		"pkg:/system/empty":            "",
	} {
		info, err := c.Stat(ctx, path)
		if err != nil || info.Size() != int64(len(want)) || info.Kind() != pk.KindFile {
			t.Errorf("stat %s: %+v, %v", path, info, err)
		}
		f, err := c.Open(ctx, path)
		if err != nil {
			t.Errorf("open %s: %v", path, err)
			continue
		}
		if got, err := io.ReadAll(f); err != nil || string(got) != want {
			t.Errorf("read %s: %q, %v", path, got, err)
		}
		if err := f.Close(); err != nil {
			t.Errorf("close %s: %v", path, err)
		}
	}
	if n, _ := b.store.opened(); n != 0 {
		t.Errorf("%d files are still open", n)
	}
	b.markers.want(ctx, t, "dsoftbusd: remote packagefs served")
	a.markers.never(t, "dsoftbusd: remote packagefs served")
}

func TestLargeFile(t *testing.T) {
	content := noise(6<<20+12345, 1)
	ctx, a, _ := twoMachines(t, map[string][]byte{"big/data": content})
	c := a.open(ctx, t, "node-b")
	f, err := c.Open(ctx, "pkg:/big/data")
	if err != nil {
		t.Fatal(err)
	}
	hash := sha256.New()
	if n, err := io.Copy(hash, f); n != int64(len(content)) || err != nil {
		t.Errorf("copied %d bytes of %d: %v", n, len(content), err)
	}
	if want := sha256.Sum256(content); !bytes.Equal(hash.Sum(nil), want[:]) {
		t.Error("the content is another")
	}
	for _, r := range []struct{ off, n int }{{0, 1}, {32767, 2}, {1 << 20, 1 << 20}, {len(content) - 1, 1}, {77, 300000}} {
		got := make([]byte, r.n)
		if _, err := f.ReadAt(got, int64(r.off)); err != nil || !bytes.Equal(got, content[r.off:r.off+r.n]) {
			t.Errorf("%d bytes at %d: %v", r.n, r.off, err)
		}
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

// Both nodes are server and client on the same session, each for several programs at a time.
func TestBothDirectionsAtOnce(t *testing.T) {
	ctx := deadline(t)
	lan := new(loopback)
	files := map[string]map[string][]byte{"node-a": {"p/f": noise(1<<20, 1)}, "node-b": {"p/f": noise(1<<20, 2)}}
	a := lan.start(t, config(t, "node-a", "node-b"), newStore(files["node-a"]))
	b := lan.start(t, config(t, "node-b", "node-a"), newStore(files["node-b"]))
	var programs sync.WaitGroup
	for range 4 {
		for _, way := range []struct {
			from *machine
			to   string
		}{{a, "node-b"}, {b, "node-a"}} {
			programs.Go(func() {
				c, err := remotefs.Dial(ctx, way.from.socket, way.to, remotefs.Options{})
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				for range 3 {
					f, err := c.Open(ctx, "pkg:/p/f")
					if err != nil {
						t.Error(err)
						return
					}
					var got bytes.Buffer
					if _, err := io.Copy(&got, f); err != nil || !bytes.Equal(got.Bytes(), files[way.to]["p/f"]) {
						t.Errorf("from %s: %d bytes, %v", way.to, got.Len(), err)
					}
					if err := f.Close(); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	programs.Wait()
	for _, m := range []*machine{a, b} {
		m.markers.never(t, "dsoftbusd: session lost")
		if n, _ := m.store.opened(); n != 0 {
			t.Errorf("%s: %d files are still open", m.id, n)
		}
	}
}

// read is a READ request's frame.
func read(handle, offset uint32, length uint16) []byte {
	return pk.AppendRead(nil, handle, offset, length)
}

// TestStatuses goes through what a server answers, request by request on one session, byte for byte.
func TestStatuses(t *testing.T) {
	ctx, a, b := twoMachines(t, map[string][]byte{
		"system/build.prop": []byte(buildProp), ".../x": []byte("dots"), "a/..b": []byte("b"), "%2e%2e/x": []byte("x"), "huge/f": nil, "edge/f": nil,
	})
	b.store.set(func() {
		b.store.sizes = map[string]int64{"huge/f": 1 << 32, "edge/f": 1<<32 - 1}
	})
	c := a.open(ctx, t, "node-b")
	reject := func(op pk.Op, s pk.Status) string {
		return string(pk.AppendReject(nil, []byte{'P', 'K', 1, byte(op)}, s))
	}
	longest := "pkg:/" + strings.Repeat("x", 187)
	type step struct {
		name    string
		request []byte
		want    string
	}
	steps := []step{
		{"stat", pk.AppendStat(nil, "pkg:/system/build.prop"), string(pk.AppendStatResponse(nil, pk.OK, 19, 0))},
		{"ENOENT on stat", pk.AppendStat(nil, "pkg:/system/missing"), string(pk.AppendStatResponse(nil, pk.NotFound, 0, 0))},
		{"ENOENT on open", pk.AppendOpen(nil, "pkg:/missing/x"), string(pk.AppendOpenResponse(nil, pk.NotFound, 0))},
		{"a directory", pk.AppendStat(nil, "pkg:/system"), string(pk.AppendStatResponse(nil, pk.NotFound, 0, 0))},
		{"EBADF on read", read(1, 0, 16), string(pk.AppendReadResponse(nil, pk.BadF, nil))},
		{"EBADF on close", pk.AppendClose(nil, 1), string(pk.AppendCloseResponse(nil, pk.BadF))},
		{"handle 0", read(0, 0, 16), string(pk.AppendReadResponse(nil, pk.BadF, nil))},
		{"open", pk.AppendOpen(nil, "pkg:/system/build.prop"), string(pk.AppendOpenResponse(nil, pk.OK, 1))},
		{"read all", read(1, 0, 19), string(pk.AppendReadResponse(nil, pk.OK, []byte(buildProp)))},
		{"read at the limit", read(1, 0, 32768), string(pk.AppendReadResponse(nil, pk.OK, []byte(buildProp)))},
		{"read one byte over the limit", read(1, 0, 32769), reject(pk.Read, pk.Oversized)},
		{"oversized before EBADF", read(9, 0, 32769), reject(pk.Read, pk.Oversized)},
		{"read of nothing", read(1, 0, 0), reject(pk.Read, pk.Oversized)},
		{"read in the middle", read(1, 3, 5), string(pk.AppendReadResponse(nil, pk.OK, []byte("nexus")))},
		{"short read at the end", read(1, 15, 64), string(pk.AppendReadResponse(nil, pk.OK, []byte("dev\n")))},
		{"read at the end", read(1, 19, 64), string(pk.AppendReadResponse(nil, pk.OK, nil))},
		{"read far after the end", read(1, 1<<32-1, 64), string(pk.AppendReadResponse(nil, pk.OK, nil))},
		{"close", pk.AppendClose(nil, 1), string(pk.AppendCloseResponse(nil, pk.OK))},
		{"close twice", pk.AppendClose(nil, 1), string(pk.AppendCloseResponse(nil, pk.BadF))},
		{"read after close", read(1, 0, 16), string(pk.AppendReadResponse(nil, pk.BadF, nil))},
		{"path at the limit", pk.AppendStat(nil, longest), string(pk.AppendStatResponse(nil, pk.NotFound, 0, 0))},
		{"path one byte over the limit", pk.AppendStat(nil, longest+"x"), reject(pk.Stat, pk.Oversized)},
		{"file of 4 GiB", pk.AppendOpen(nil, "pkg:/huge/f"), string(pk.AppendOpenResponse(nil, pk.Oversized, 0))},
		{"stat of a file of 4 GiB", pk.AppendStat(nil, "pkg:/huge/f"), string(pk.AppendStatResponse(nil, pk.OK, 1<<32, 0))},
		{"file of 4 GiB less one byte", pk.AppendOpen(nil, "pkg:/edge/f"), string(pk.AppendOpenResponse(nil, pk.OK, 2))},
		{"and close", pk.AppendClose(nil, 2), string(pk.AppendCloseResponse(nil, pk.OK))},
		{"empty frame", nil, reject(pk.Stat, pk.BadRequest)},
		{"three bytes", []byte("PK\x01"), reject(pk.Stat, pk.BadRequest)},
		{"unknown operation", []byte("PK\x01\x2a"), reject(0x2a, pk.BadRequest)},
		{"version 2", []byte("PK\x02\x01\x06\x00pkg:/a"), reject(pk.Stat, pk.BadRequest)},
		{"magic", []byte("KP\x01\x04\x01\x00\x00\x00"), reject(pk.Close, pk.BadRequest)},
		{"not UTF-8", pk.AppendStat(nil, "pkg:/\xff"), reject(pk.Stat, pk.BadRequest)},
		{"frame too long", append(pk.AppendStat(nil, "pkg:/a"), 'x'), reject(pk.Stat, pk.BadRequest)},
		{"what looks like an answer", []byte("PK\x01\x85\x00"), reject(5, pk.BadRequest)},
		{"largest frame", bytes.Repeat([]byte{'x'}, session.MaxPayload), reject('x', pk.BadRequest)},
	}
	for path, status := range pathRules {
		want := reject(pk.Stat, status)
		if status == pk.NotFound {
			want = string(pk.AppendStatResponse(nil, status, 0, 0))
		}
		if status == pk.OK {
			content := b.store.files[strings.TrimPrefix(strings.TrimPrefix(path, "pkg:/"), "/packages/")]
			want = string(pk.AppendStatResponse(nil, pk.OK, uint64(len(content)), 0))
		}
		steps = append(steps, step{"path rule " + path, pk.AppendStat(nil, path), want})
		openWant := want
		switch status {
		case pk.OK:
			continue // it would take a handle
		case pk.NotFound:
			openWant = string(pk.AppendOpenResponse(nil, status, 0))
		default:
			openWant = reject(pk.Open, status)
		}
		steps = append(steps, step{"path rule on open " + path, pk.AppendOpen(nil, path), openWant})
	}
	for _, s := range steps {
		got, err := c.Do(ctx, s.request)
		if err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		if string(got) != s.want {
			t.Errorf("%s: answered %q, want %q", s.name, got, s.want)
		}
	}
	if n, _ := b.store.opened(); n != 0 {
		t.Errorf("%d files are still open", n)
	}
	b.markers.never(t, "dsoftbusd: session lost")
}

// pathRules are those of the contract's section 3, "Paths".
var pathRules = map[string]pk.Status{
	"pkg:/system/build.prop":       pk.OK,
	"/packages/system/build.prop":  pk.OK,
	"pkg:/.../x":                   pk.OK,
	"pkg:/a/..b":                   pk.OK,
	"pkg:/%2e%2e/x":                pk.OK,
	"pkg:/system@9.9.9/build.prop": pk.NotFound,
	"pkg:/SYSTEM/build.prop":       pk.NotFound,
	"pkg:/system":                  pk.NotFound,
	"pkg:/...":                     pk.NotFound,
	"pkg:system/x":                 pk.NonPackageFSScheme,
	"PKG:/x":                       pk.NonPackageFSScheme,
	"/packages":                    pk.NonPackageFSScheme,
	" pkg:/x":                      pk.NonPackageFSScheme,
	"file:/etc/passwd":             pk.NonPackageFSScheme,
	"/etc/passwd":                  pk.NonPackageFSScheme,
	"pkg:/":                        pk.Oversized,
	"/packages/":                   pk.Oversized,
	"pkg://x":                      pk.PathTraversal,
	"pkg:/a//b":                    pk.PathTraversal,
	"pkg:/a/":                      pk.PathTraversal,
	"pkg:/a/./b":                   pk.PathTraversal,
	"pkg:/../x":                    pk.PathTraversal,
	"pkg:/a/../b":                  pk.PathTraversal,
	"/packages/../etc/passwd":      pk.PathTraversal,
	`pkg:/a\b`:                     pk.PathTraversal,
	"pkg:/a\x00b":                  pk.PathTraversal,
}

func TestHandleLimit(t *testing.T) {
	ctx, a, b := twoMachines(t, map[string][]byte{"system/build.prop": []byte(buildProp)})
	c := a.open(ctx, t, "node-b")
	do := func(request []byte) string {
		t.Helper()
		got, err := c.Do(ctx, request)
		if err != nil {
			t.Fatal(err)
		}
		return string(got)
	}
	open := pk.AppendOpen(nil, "pkg:/system/build.prop")
	for want := uint32(1); want <= 8; want++ {
		if got := do(open); got != string(pk.AppendOpenResponse(nil, pk.OK, want)) {
			t.Fatalf("open %d: %q", want, got)
		}
	}
	if got := do(open); got != string(pk.AppendOpenResponse(nil, pk.Limit, 0)) {
		t.Errorf("the ninth: %q", got)
	}
	if got := do(pk.AppendOpen(nil, "pkg:/system/missing")); got != string(pk.AppendOpenResponse(nil, pk.NotFound, 0)) {
		t.Errorf("a missing file at the limit: %q", got)
	}
	if n, _ := b.store.opened(); n != 8 {
		t.Errorf("%d files are open", n)
	}
	if got := do(pk.AppendClose(nil, 3)); got != string(pk.AppendCloseResponse(nil, pk.OK)) {
		t.Errorf("close: %q", got)
	}
	if got := do(pk.AppendClose(nil, 3)); got != string(pk.AppendCloseResponse(nil, pk.BadF)) {
		t.Errorf("close again: %q", got)
	}
	if got := do(open); got != string(pk.AppendOpenResponse(nil, pk.OK, 9)) {
		t.Errorf("a handle's value was used again: %q", got)
	}
	if n, _ := b.store.opened(); n != 8 {
		t.Errorf("%d files are open", n)
	}
}

// OPEN pins the content: what an open handle reads does not change with the package.
func TestOpenPinsContent(t *testing.T) {
	ctx, a, b := twoMachines(t, map[string][]byte{"system/build.prop": []byte(buildProp)})
	c := a.open(ctx, t, "node-b")
	f, err := c.Open(ctx, "pkg:/system/build.prop")
	if err != nil {
		t.Fatal(err)
	}
	b.store.set(func() { delete(b.store.files, "system/build.prop") })
	if got, err := io.ReadAll(f); err != nil || string(got) != buildProp {
		t.Errorf("read %q, %v", got, err)
	}
	if _, err := c.Stat(ctx, "pkg:/system/build.prop"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("stat: %v", err)
	}
}

// What a program leaves open is closed for it; the session and other programs' handles stay.
func TestProgramThatGoesLeavesNoHandles(t *testing.T) {
	ctx, a, b := twoMachines(t, map[string][]byte{"system/build.prop": []byte(buildProp)})
	stays := a.open(ctx, t, "node-b")
	f, err := stays.Open(ctx, "pkg:/system/build.prop")
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		goes, err := localapi.OpenPeer(ctx, a.socket, "node-b", time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		// Some are answered before it goes, some not.
		for range 5 {
			if err := goes.Send(localapi.KindFrame, pk.AppendOpen(nil, "pkg:/system/build.prop")); err != nil {
				t.Fatal(err)
			}
		}
		if _, _, err := goes.Recv(); err != nil {
			t.Fatal(err)
		}
		goes.Close()
		if err := b.store.waitOpen(ctx, 1); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := io.ReadAll(f); err != nil || string(got) != buildProp {
		t.Errorf("the other program read %q, %v", got, err)
	}
	b.markers.never(t, "dsoftbusd: session lost")
}

// A peer that vanishes is noticed, its handles are freed, and it is back as soon as it is.
func TestPeerThatVanishes(t *testing.T) {
	ctx := deadline(t)
	lan := new(loopback)
	cfg := config(t, "node-b", "node-a")
	cfg.Limits.PingAfter, cfg.Limits.DeadAfter = 50*time.Millisecond, 200*time.Millisecond
	b := lan.start(t, cfg, newStore(map[string][]byte{"system/build.prop": []byte(buildProp)}))
	b.markers.want(ctx, t, "dsoftbusd: ready")
	silent, err := handshakeAs(t, b, deviceOf(t, "node-a").Key, "node-a")
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := silent.Send(session.ChannelPackageFS, pk.AppendOpen(nil, "pkg:/system/build.prop")); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.store.waitOpen(ctx, 3); err != nil {
		t.Fatal(err)
	}
	b.markers.want(ctx, t, "dsoftbusd: session lost node-a")
	if n, _ := b.store.opened(); n != 0 {
		t.Errorf("%d files are still open when the session is reported lost", n)
	}
	a := lan.start(t, config(t, "node-a", "node-b"), newStore(nil))
	if got, err := a.open(ctx, t, "node-b").Stat(ctx, "pkg:/system/build.prop"); err != nil || got.Size() != 19 {
		t.Errorf("afterwards: %+v, %v", got, err)
	}
}

func TestServerThatStops(t *testing.T) {
	ctx, a, b := twoMachines(t, map[string][]byte{"system/build.prop": []byte(buildProp)})
	c := a.open(ctx, t, "node-b")
	f, err := c.Open(ctx, "pkg:/system/build.prop")
	if err != nil {
		t.Fatal(err)
	}
	b.halt(t)
	if n, _ := b.store.opened(); n != 0 {
		t.Errorf("%d files are still open", n)
	}
	var told *localapi.Error
	if _, err := io.ReadAll(f); !errors.As(err, &told) || told.Code != localapi.CodeSessionLost {
		t.Errorf("the program was told: %v", err)
	}
	a.markers.want(ctx, t, "dsoftbusd: session lost node-b")
	if _, err := remotefs.Dial(ctx, a.socket, "node-b", remotefs.Options{Wait: -1}); !isCode(err, localapi.CodeNoSession) {
		t.Errorf("without the server: %v", err)
	}
}

func isCode(err error, code localapi.Code) bool {
	var e *localapi.Error
	return errors.As(err, &e) && e.Code == code
}

func TestRestartedServerIsFoundAgain(t *testing.T) {
	ctx := deadline(t)
	lan := new(loopback)
	files := map[string][]byte{"system/build.prop": []byte(buildProp)}
	a := lan.start(t, config(t, "node-a", "node-b"), newStore(nil))
	for range 3 {
		b := lan.start(t, config(t, "node-b", "node-a"), newStore(files)) // on other ports each time
		if _, err := a.open(ctx, t, "node-b").Stat(ctx, "pkg:/system/build.prop"); err != nil {
			t.Error(err)
		}
		b.halt(t)
		a.markers.want(ctx, t, "dsoftbusd: session lost node-b")
	}
}

func TestPackageServiceAwayAndBack(t *testing.T) {
	ctx, a, b := twoMachines(t, map[string][]byte{"system/build.prop": []byte(buildProp)})
	c := a.open(ctx, t, "node-b")
	f, err := c.Open(ctx, "pkg:/system/build.prop")
	if err != nil {
		t.Fatal(err)
	}
	b.store.set(func() { b.store.away = true })
	for range 3 {
		for _, frame := range [][]byte{pk.AppendStat(nil, "pkg:/system/build.prop"), pk.AppendOpen(nil, "pkg:/missing/x")} {
			got, err := c.Do(ctx, frame)
			if err != nil {
				t.Fatal(err)
			}
			if r, err := pk.ParseResponse(got); err != nil || r.Status != pk.IO {
				t.Errorf("answered %q, %v", got, err)
			}
		}
	}
	if got, err := io.ReadAll(f); err != nil || string(got) != buildProp {
		t.Errorf("what was open reads %q, %v", got, err)
	}
	b.store.set(func() { b.store.away = false })
	if _, err := c.Stat(ctx, "pkg:/system/build.prop"); err != nil {
		t.Errorf("when it is back: %v", err)
	}
	b.markers.never(t, "dsoftbusd: session lost")
}

func TestRefusedPrograms(t *testing.T) {
	ctx, a, _ := twoMachines(t, nil)
	tell(t, a.node, announceOf(t, "node-x", 1))
	for {
		peers, err := localapi.Peers(ctx, a.socket)
		if err != nil {
			t.Fatal(err)
		}
		if slices.ContainsFunc(peers, func(p localapi.Peer) bool { return p.ID == "node-x" && !p.Paired && p.Port == 1 }) {
			break
		}
	}
	for peer, code := range map[string]localapi.Code{
		"node-x":    localapi.CodeNotPaired,
		"node-y":    localapi.CodeUnknownPeer,
		"node-a":    localapi.CodeUnknownPeer, // itself
		"\n\x1b[2J": localapi.CodeUnknownPeer,
	} {
		_, err := localapi.OpenPeer(ctx, a.socket, peer, time.Minute)
		if !isCode(err, code) {
			t.Errorf("open %q: %v, want %s", peer, err, code)
		}
	}
	bad := func(kind localapi.Kind, body string) *localapi.Conn {
		c, err := localapi.OpenPeer(ctx, a.socket, "node-b", time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if err := c.Send(kind, []byte(body)); err != nil {
			t.Fatal(err)
		}
		return c
	}
	for _, c := range []*localapi.Conn{
		bad(localapi.KindControl, `{"peers":true}`),
		bad(localapi.KindFrame, strings.Repeat("x", session.MaxPayload+1)),
	} {
		if _, err := c.RecvReply(); !isCode(err, localapi.CodeBadRequest) {
			t.Errorf("after open: %v", err)
		}
	}
	a.markers.never(t, "dsoftbusd: session lost")
}

func TestPeersListing(t *testing.T) {
	ctx := deadline(t)
	lan := new(loopback)
	a := lan.start(t, config(t, "node-a", "node-b", "node-z"), newStore(nil))
	b := lan.start(t, config(t, "node-b", "node-a"), newStore(nil))
	a.markers.want(ctx, t, "dsoftbusd: cross-vm session ok node-b")
	got, err := localapi.Peers(ctx, a.socket)
	if err != nil || len(got) != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	got[0].AgeMS = 0
	for i, want := range []string{
		fmt.Sprintf("{node-b true [127.0.0.1] %d true [packagefs] 0}", b.network.Port),
		"{node-z true [] 0 false [] -1}",
	} {
		if text := fmt.Sprint(got[i]); text != want {
			t.Errorf("got %s, want %s", text, want)
		}
	}
}

// What strangers do at the session port: no answer byte, and nothing of it reaches a session.
func TestStrangersAtTheSessionPort(t *testing.T) {
	ctx, a, b := twoMachines(t, map[string][]byte{"system/build.prop": []byte(buildProp)})
	c := a.open(ctx, t, "node-b")
	works := func(after string) {
		t.Helper()
		if _, err := c.Stat(ctx, "pkg:/system/build.prop"); err != nil {
			t.Errorf("after %s: %v", after, err)
		}
	}
	for name, sent := range map[string]string{
		"garbage":                        string(noise(1000, 9)),
		"a PK frame without a handshake": string(pk.AppendStat(nil, "pkg:/system/build.prop")),
		"a forged first message":         "\x00\x30" + string(noise(48, 9)),
	} {
		s := visit(t, b)
		s.Write([]byte(sent))
		if !closedWithoutAnswer(s) {
			t.Errorf("%s was answered", name)
		}
		works(name)
	}
	b.markers.want(ctx, t, "dsoftbusd: session denied handshake failed")

	half := visit(t, b)
	half.Write([]byte("\x00\x30half"))
	half.(interface{ CloseWrite() error }).CloseWrite()
	if !closedWithoutAnswer(half) {
		t.Error("a truncated handshake was answered")
	}
	b.markers.want(ctx, t, "dsoftbusd: session denied handshake cut short")
	works("a truncated handshake")

	denied := func(name string, key session.KeyPair, id, marker string) {
		t.Helper()
		s, err := handshakeAs(t, b, key, id)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		s.Send(session.ChannelPackageFS, pk.AppendStat(nil, "pkg:/system/build.prop"))
		if channel, payload, err := s.Recv(); err == nil {
			t.Errorf("%s was answered %q on channel %d", name, payload, channel)
		}
		b.markers.want(ctx, t, marker)
		works(name)
	}
	denied("an unpaired device", deviceOf(t, "node-x").Key, "node-x", "dsoftbusd: session denied not paired")
	denied("a wrong key", deviceOf(t, "node-x").Key, "node-a", "dsoftbusd: session denied wrong key")

	for name, m := range map[string]*machine{"node-a": a, "node-b": b} {
		m.markers.never(t, "dsoftbusd: session lost")
		if n := m.markers.count("dsoftbusd: cross-vm session ok node-a") + m.markers.count("dsoftbusd: cross-vm session ok node-b"); n != 1 {
			t.Errorf("%s: %d sessions", name, n)
		}
	}
}

func TestHandshakesThatNeverEnd(t *testing.T) {
	ctx := deadline(t)
	lan := new(loopback)
	cfg := config(t, "node-b", "node-a")
	cfg.Limits.HandshakeTimeout = 300 * time.Millisecond
	b := lan.start(t, cfg, newStore(map[string][]byte{"system/build.prop": []byte(buildProp)}))
	b.markers.want(ctx, t, "dsoftbusd: ready")
	// A listener accepts in the order of the connections, so it is the last one that finds no place.
	for range 16 {
		visit(t, b)
	}
	seventeenth := visit(t, b)
	if !closedWithoutAnswer(seventeenth) {
		t.Error("the seventeenth was answered")
	}
	b.markers.want(ctx, t, "dsoftbusd: session denied too many handshakes")
	b.markers.want(ctx, t, "dsoftbusd: session denied handshake timeout")
	a := lan.start(t, config(t, "node-a", "node-b"), newStore(nil))
	if _, err := a.open(ctx, t, "node-b").Stat(ctx, "pkg:/system/build.prop"); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// Lies about a paired device over UDP cost nothing that can be seen.
func TestForgedAnnounces(t *testing.T) {
	ctx, a, b := twoMachines(t, map[string][]byte{"system/build.prop": []byte(buildProp)})
	c := a.open(ctx, t, "node-b")
	tell(t, a.node, []byte("NXSB\x02"))
	a.markers.want(ctx, t, "dsoftbusd: announce ignored (malformed)")
	tell(t, a.node, announceOf(t, "node-b", 1, func(n *nxsb.Announce) { n.Key[0]++ }))
	a.markers.want(ctx, t, "dsoftbusd: identity mismatch peer=node-b")
	tell(t, a.node, announceOf(t, "node-b", 1)) // the right key, a wrong port
	if _, err := c.Stat(ctx, "pkg:/system/build.prop"); err != nil {
		t.Error(err)
	}
	a.markers.never(t, "dsoftbusd: session lost")
	b.markers.never(t, "dsoftbusd: session lost")
}

// A program that does not read its answers harms itself alone.
func TestProgramThatReadsNothing(t *testing.T) {
	content := noise(1<<20, 3)
	ctx, a, _ := twoMachines(t, map[string][]byte{"big/data": content})
	lazy, err := localapi.OpenPeer(ctx, a.socket, "node-b", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer lazy.Close()
	if err := lazy.Send(localapi.KindFrame, pk.AppendOpen(nil, "pkg:/big/data")); err != nil {
		t.Fatal(err)
	}
	_, answer, err := lazy.Recv()
	if err != nil {
		t.Fatal(err)
	}
	open, err := pk.ParseResponse(answer)
	if err != nil {
		t.Fatal(err)
	}
	asking, stop := context.WithCancel(ctx)
	var asker sync.WaitGroup
	asker.Go(func() {
		for asking.Err() == nil {
			if lazy.Send(localapi.KindFrame, read(open.Handle, 0, 32768)) != nil {
				return
			}
		}
	})
	c := a.open(ctx, t, "node-b")
	for range 3 {
		f, err := c.Open(ctx, "pkg:/big/data")
		if err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		if _, err := io.Copy(&got, f); err != nil || !bytes.Equal(got.Bytes(), content) {
			t.Errorf("the other program read %d bytes, %v", got.Len(), err)
		}
		f.Close()
	}
	stop()
	lazy.Close()
	asker.Wait()
}

// smallBuffers makes the connections of a listener hold little that was not read.
type smallBuffers struct{ net.Listener }

func (l smallBuffers) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		err = c.(*net.TCPConn).SetWriteBuffer(4096)
	}
	return c, err
}

// lazyPeer gives a node-b that is in the middle of sending to a peer which has stopped reading.
func lazyPeer(t *testing.T, deadAfter time.Duration) (context.Context, *machine, *session.Conn) {
	t.Helper()
	ctx := deadline(t)
	dir := socketFolder(t)
	cfg := config(t, "node-b", "node-a")
	cfg.Limits.PingAfter, cfg.Limits.DeadAfter = 50*time.Millisecond, deadAfter
	network := new(loopback).network(t, dir)
	network.Sessions = smallBuffers{network.Sessions}
	b := &machine{start(t, cfg, network, newStore(map[string][]byte{"big/data": noise(1<<20, 1)})), dir}
	b.markers.want(ctx, t, "dsoftbusd: ready")
	raw := visit(t, b)
	if err := raw.(*net.TCPConn).SetReadBuffer(4096); err != nil {
		t.Fatal(err)
	}
	lazy, err := session.Initiate(raw, session.Config{Static: deviceOf(t, "node-a").Key, DeviceID: "node-a"}, deviceOf(t, "node-b").Key.Public)
	if err != nil {
		t.Fatal(err)
	}
	lazy.Send(session.ChannelPackageFS, pk.AppendOpen(nil, "pkg:/big/data"))
	for range 1000 {
		lazy.Send(session.ChannelPackageFS, read(1, 0, 32768))
	}
	// Once a part of the first answer is here, the daemon is writing the rest, for which there is no room.
	if _, err := io.CopyN(io.Discard, raw, 5000); err != nil {
		t.Fatal(err)
	}
	return ctx, b, lazy
}

// A peer that reads nothing cannot hold up the end of the daemon.
func TestShutdownWithAPeerThatReadsNothing(t *testing.T) {
	_, b, _ := lazyPeer(t, time.Hour) // so that nothing else ends the waiting
	b.halt(t)
	if n, _ := b.store.opened(); n != 0 {
		t.Errorf("%d files are still open", n)
	}
}

// A peer that reads nothing is given up, however much it says.
func TestPeerThatReadsNothing(t *testing.T) {
	ctx, b, lazy := lazyPeer(t, 2*time.Second)
	for lazy.Send(session.ChannelControl, session.AppendPing(nil)) == nil {
	}
	b.markers.want(ctx, t, "dsoftbusd: session lost node-a")
	if n, _ := b.store.opened(); n != 0 {
		t.Errorf("%d files are still open", n)
	}
}

// Nothing that a daemon prints, and nothing that prints a daemon's configuration, holds the private key.
func TestNothingShowsThePrivateKey(t *testing.T) {
	ctx, a, b := twoMachines(t, nil)
	tell(t, a.node, announceOf(t, "node-b", 1, func(n *nxsb.Announce) { n.Key[0]++ }))
	a.markers.want(ctx, t, "dsoftbusd: identity mismatch peer=node-b")
	b.halt(t)
	a.markers.want(ctx, t, "dsoftbusd: session lost node-b")
	cfg := config(t, "node-a", "node-b")
	d, err := newDaemon(cfg, a.network)
	if err != nil {
		t.Fatal(err)
	}
	private := deviceOf(t, "node-a").Key.Private
	texts := append(a.markers.texts(), a.log.texts()...)
	for _, v := range []any{cfg, &cfg, cfg.Device, d} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%x", "%s"} {
			texts = append(texts, fmt.Sprintf(verb, v))
		}
	}
	for _, form := range []string{
		fmt.Sprintf("%x", private[:]), fmt.Sprintf("%X", private[:]), fmt.Sprint([32]byte(private)), fmt.Sprintf("%#v", [32]byte(private)), string(private[:]),
	} {
		form = strings.Trim(form, "[]")
		for _, text := range texts {
			if strings.Contains(text, form) {
				t.Errorf("shown in %q", text)
			}
		}
	}
}
