package dsoftbusd

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"dsoftbus-rig/protocol/pk"
	"dsoftbus-rig/protocol/session"
)

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
