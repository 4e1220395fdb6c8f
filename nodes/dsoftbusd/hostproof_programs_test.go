package dsoftbusd

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dsoftbus-rig/nodes/localapi"
	"dsoftbus-rig/protocol/pk"
	"dsoftbus-rig/protocol/session"
)

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
