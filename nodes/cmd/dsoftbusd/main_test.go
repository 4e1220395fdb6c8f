package dsoftbusd

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dsoftbus-rig/nodes/device"
	"dsoftbus-rig/protocol/session"
)

func TestUsage(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	dir := t.TempDir()
	key, err := session.NewKeyPair([32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	if err := device.Save(dir, device.Device{ID: "node-a", Key: key}, nil); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args   []string
		status int
		want   string
	}{
		{[]string{"-h"}, 0, "-announce-port"},
		{[]string{"-nope"}, 2, "-nope"},
		{[]string{"extra"}, 2, `unexpected argument "extra"`},
		{[]string{"-config", "no-such-folder"}, 1, "no-such-folder"},
		{[]string{"-config", dir, "-group", "nonsense"}, 2, "-group"},
		{[]string{"-config", dir, "-group", "10.0.0.1", "-listen", ":0"}, 1, "not an IPv4 multicast"},
		{[]string{"-config", dir, "-announce-port", "70000"}, 2, "-announce-port"},
		{[]string{"-config", dir, "-keylog", filepath.Join(dir, "nowhere", "keys"), "-listen", ":0"}, 1, "open the key log"},
		{[]string{"-config", dir, "-listen", "256.0.0.1:1"}, 1, "listen for sessions"},
		{[]string{"-config", dir, "-listen", ":0", "-socket", filepath.Join(dir, "s"), "-pk-max-read", "70000"}, 1, "read limit"},
	} {
		var stdout, stderr bytes.Buffer
		if status := Main(ctx, c.args, &stdout, &stderr); status != c.status || stdout.Len() != 0 || !strings.Contains(stderr.String(), c.want) {
			t.Errorf("%q ended with %d, %q, %q; want %d and %q", c.args, status, &stdout, &stderr, c.status, c.want)
		}
	}
}
