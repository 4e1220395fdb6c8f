package delve

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"strings"
	"testing"
)

// framed is a DAP message.
func framed(body string) string { return fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body) }

func TestReader(t *testing.T) {
	tests := []struct {
		name, in string
		want     []map[string]string
	}{
		{"requests", `{"method":"RPCServer.Command","params":[{"name":"continue","x":{"name":"no"}}],"id":7}` + "\n" + `{"method":"RPCServer.State","params":[{"NonBlocking":true}],"id":8}`,
			[]map[string]string{{"method": "RPCServer.Command", "params.0.name": "continue", "id": "7"}, {"method": "RPCServer.State", "id": "8"}}},
		{"response", ` { "id" : 7 , "result" : {"State":{"exited":true,"deep":[[[[[{"exited":false}]]]]]}}, "error" : null }`,
			[]map[string]string{{"id": "7", "result.State.exited": "true", "error": "null"}}},
		{"braces and quotes in texts", `{"error":"}{\"][\\","id":1}`, []map[string]string{{"error": `}{\"][\\`, "id": "1"}}},
		{"second of a list is not the first", `{"params":[1,{"name":"continue"}],"id":1}`, []map[string]string{{"id": "1"}}},
		{"DAP", framed(`{"seq":3,"type":"request","command":"next","arguments":{"command":"no"}}`) + framed(`{"type":"event","event":"stopped","body":{}}`),
			[]map[string]string{{"seq": "3", "type": "request", "command": "next"}, {"type": "event", "event": "stopped"}}},
	}
	for _, test := range tests {
		for size := 1; size <= len(test.in); size++ {
			r := reader{dap: test.in[0] == 'C'}
			var got []map[string]string
			for rest := []byte(test.in); len(rest) > 0; {
				part := rest[:min(size, len(rest))]
				if err := messages(&r, part, func(m map[string]string) error { got = append(got, maps.Clone(m)); return nil }); err != nil {
					t.Fatalf("%s, in parts of %d: %v", test.name, size, err)
				}
				rest = rest[len(part):]
			}
			if fmt.Sprint(got) != fmt.Sprint(test.want) || r.mid() {
				t.Fatalf("%s, in parts of %d: got %v (mid %t), want %v", test.name, size, got, r.mid(), test.want)
			}
		}
	}
}

func TestReaderIsStrange(t *testing.T) {
	for _, in := range []string{
		"GET / HTTP/1.1\r\n", "[1]", "Content-Length: x\r\n\r\n{}", "Content-Length: 3\r\n\r\n{} {", "Content-Length: 5\r\n\r\n{\"a\":1}",
		"C" + strings.Repeat("x", maxHeader+1),
	} {
		r := reader{dap: in[0] == 'C'}
		if err := messages(&r, []byte(in), func(map[string]string) error { return nil }); !errors.Is(err, errStrange) {
			t.Errorf("%.30q: %v", in, err)
		}
	}
}

// A message may be as large as it likes: a goroutine list, or a text of a gigabyte.
func TestReaderNeedsLittleMemory(t *testing.T) {
	var r reader
	begin, piece := []byte(`{"id":1,"result":{"list":["`), bytes.Repeat([]byte(`x","y",[[[[[{"k`), 1<<12) // it ends within a text
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, _, err := r.next(begin); err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		if _, _, err := r.next(piece); err != nil {
			t.Fatal(err)
		}
	}
	text := bytes.Repeat([]byte("x"), 1<<16)
	for range 100 {
		if _, _, err := r.next(text); err != nil { // within a text
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 1<<20 {
		t.Errorf("%d bytes for a message of %d", grown, 1000*len(piece)+100*len(text))
	}
}

func FuzzReader(f *testing.F) {
	f.Add([]byte(`{"method":"RPCServer.Command","params":[{"name":"continue"}],"id":7}`), uint8(3))
	f.Add([]byte(framed(`{"seq":3,"type":"request","command":"next"}`)), uint8(20))
	f.Fuzz(func(t *testing.T, in []byte, size uint8) {
		if len(in) == 0 {
			return
		}
		// However the stream is cut, the same messages are found.
		cut := func(size int) string {
			r := reader{dap: in[0] == 'C'}
			var out strings.Builder
			for rest := in; len(rest) > 0; {
				part := rest[:min(size, len(rest))]
				rest = rest[len(part):]
				if err := messages(&r, part, func(m map[string]string) error { fmt.Fprintln(&out, m); return nil }); err != nil {
					fmt.Fprint(&out, "strange")
					break
				}
			}
			return out.String()
		}
		if whole, parts := cut(len(in)), cut(int(size)+1); whole != parts {
			t.Errorf("whole: %q, in parts: %q", whole, parts)
		}
	})
}
