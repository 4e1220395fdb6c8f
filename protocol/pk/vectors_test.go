package pk

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"
)

// vector is one frame of the contract's shared vectors.
type vector struct {
	Name     string `json:"name"`
	Kind     string `json:"kind"`
	Hex      string `json:"hex"`
	Op       string `json:"op"`
	Rel      string `json:"rel"`
	Handle   uint32 `json:"handle"`
	Offset   uint32 `json:"offset"`
	Length   uint16 `json:"length"`
	Status   Status `json:"status"`
	Size     uint64 `json:"size"`
	FileKind uint16 `json:"file_kind"`
	Data     string `json:"data_utf8"`
}

func (v vector) frame(tb testing.TB) []byte {
	frame, err := hex.DecodeString(v.Hex)
	if err != nil {
		tb.Fatalf("vector %q: %v", v.Name, err)
	}
	return frame
}

func vectors(tb testing.TB) []vector {
	text, err := os.ReadFile("../testdata/vectors.json")
	if err != nil {
		tb.Fatal(err)
	}
	var all struct {
		PK []vector `json:"pk"`
	}
	if err := json.Unmarshal(text, &all); err != nil {
		tb.Fatal(err)
	}
	if len(all.PK) == 0 {
		tb.Fatal("no vectors")
	}
	return all.PK
}

func TestVectors(t *testing.T) {
	for _, v := range vectors(t) {
		t.Run(v.Name, func(t *testing.T) {
			switch v.Kind {
			case "request":
				checkRequestVector(t, v)
			case "response":
				checkResponseVector(t, v)
			default:
				t.Fatalf("vector of kind %q", v.Kind)
			}
		})
	}
}

func checkRequestVector(t *testing.T, v vector) {
	frame := v.frame(t)
	r, status := ParseRequest(frame, true, DefaultLimits())
	if status != OK {
		t.Fatalf("status %s, want OK", status)
	}
	if r.Op.String() != v.Op || r.Name.Rel() != v.Rel || r.Handle != v.Handle || r.Offset != v.Offset || r.Length != v.Length {
		t.Errorf("parsed as %+v, want %+v", r, v)
	}
	if again := encode(r); string(again) != string(frame) {
		t.Errorf("encoded as %x, want %x", again, frame)
	}
}

// encode is the inverse of ParseRequest.
func encode(r Request) []byte {
	switch r.Op {
	case Stat:
		return AppendStat(nil, r.Path)
	case Open:
		return AppendOpen(nil, r.Path)
	case Read:
		return AppendRead(nil, r.Handle, r.Offset, r.Length)
	}
	return AppendClose(nil, r.Handle)
}

func checkResponseVector(t *testing.T, v vector) {
	frame := v.frame(t)
	r, err := ParseResponse(frame)
	if err != nil {
		t.Fatal(err)
	}
	if r.Op.String() != v.Op || r.Status != v.Status || r.Size != v.Size || r.Kind != v.FileKind || r.Handle != v.Handle ||
		string(r.Data) != v.Data {
		t.Errorf("parsed as %+v, want %+v", r, v)
	}
	if again := encodeResponse(r, len(frame)); string(again) != string(frame) {
		t.Errorf("encoded as %x, want %x", again, frame)
	}
}

// encodeResponse is the inverse of ParseResponse; size tells the two forms of a failure apart.
func encodeResponse(r Response, size int) []byte {
	if size == rejectLen {
		return AppendReject(nil, []byte{'P', 'K', 1, byte(r.Op)}, r.Status)
	}
	switch r.Op {
	case Stat:
		return AppendStatResponse(nil, r.Status, r.Size, r.Kind)
	case Open:
		return AppendOpenResponse(nil, r.Status, r.Handle)
	}
	return AppendReadResponse(nil, r.Status, r.Data)
}
