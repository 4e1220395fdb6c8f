package decode

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// want is what each of the contract's shared vectors has to be shown as.
var want = map[string]string{
	"stat build.prop":          "STAT system/build.prop",
	"open build.prop":          "OPEN system/build.prop",
	"read 7 13 64":             "READ h=7 off=13 len=64",
	"read 1 0 64":              "READ h=1 off=0 len=64",
	"read badf":                "READ h=3737844653 off=0 len=16",
	"close 7":                  "CLOSE h=7",
	"stat ok size 19":          "STAT OK size=19",
	"stat not found":           "STAT NOT_FOUND",
	"open ok 1":                "OPEN OK handle=1",
	"open limit":               "OPEN LIMIT",
	"read ok 19":               "READ OK n=19",
	"read eof":                 "READ OK n=0",
	"read badf answer":         "READ BADF",
	"close ok":                 "CLOSE OK",
	"close badf":               "CLOSE BADF",
	"reject traversal on stat": "reject PATH_TRAVERSAL: answer to STAT",
	"node9":                    "announce node9 port=37020 key=11111111… services=samgrd,bundlemgrd",
}

func TestVectors(t *testing.T) {
	text, err := os.ReadFile("../../protocol/testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var all struct {
		PK, NXSB []struct{ Name, Kind, Hex, Error string }
	}
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	if len(all.PK) == 0 || len(all.NXSB) == 0 {
		t.Fatal("no vectors")
	}
	for _, v := range append(all.PK, all.NXSB...) {
		got, err := Hex(v.Hex)
		if err != nil {
			t.Errorf("%s: %v", v.Name, err)
		}
		name := v.Name
		if v.Kind == "response" && name == "read badf" {
			name = "read badf answer" // the request has the same name
		}
		switch {
		case v.Error != "":
			if !strings.HasPrefix(got, "malformed: nxsb: "+v.Error) {
				t.Errorf("%s: %q, want its error %q", v.Name, got, v.Error)
			}
		case got != want[name]:
			t.Errorf("%s: %q, want %q", v.Name, got, want[name])
		}
	}
}

func TestHex(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"504b01010a00706b673a2f2e2e2f7878", `reject PATH_TRAVERSAL: STAT "pkg:/../xx"`},
		{"50:4b:01:03 00000000 00000000 0000", "reject OVERSIZED: READ of 14 bytes"},
		{"504b0109", "reject BAD_REQUEST: OP(0x09) of 4 bytes"},
		{"50", "reject BAD_REQUEST: 1 bytes"},
		{"504b018142", "malformed: pk: unknown status: 66"},
		{"504b018300ff00", "malformed: pk: response of the wrong length: READ of 7 bytes"},
		{"", "malformed: nxsb: truncated: magic"},
		{"4e58534201036e1b6d9c9c" + strings.Repeat("00", 32) + "00", `announce "n\x1bm" port=40092 key=00000000… services=`},
	} {
		if got, err := Hex(c.line); err != nil || got != c.want {
			t.Errorf("%s: %q, %v; want %q", c.line, got, err, c.want)
		}
	}
	for _, bad := range []string{"xyz", "504", "0x50"} {
		if got, err := Hex(bad); err == nil {
			t.Errorf("%q is %q", bad, got)
		}
	}
}

// Whatever a frame is, it has one line that does no harm.
func FuzzHex(f *testing.F) {
	f.Add([]byte("PK\x01\x01\x05\x00pkg:/"))
	f.Add([]byte("NXSB\x01"))
	f.Fuzz(func(t *testing.T, data []byte) {
		text, err := datagram(data)
		if err != nil {
			text = err.Error()
		}
		if text == "" || strings.ContainsAny(text, "\n\x1b\x00") {
			t.Errorf("%x is %q", data, text)
		}
		var a, b way
		for range 2 {
			if text, _ := packageFrame(data, &a, &b); text == "" || strings.ContainsAny(text, "\n\x1b\x00") {
				t.Errorf("%x is %q", data, text)
			}
			a, b = b, a
		}
	})
}
