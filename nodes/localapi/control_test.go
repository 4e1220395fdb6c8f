package localapi

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestParseRequest(t *testing.T) {
	open := func(peer string, ms int64) Request { return Request{Open: &Open{Peer: peer, WaitMS: ms}} }
	for _, c := range []struct {
		body string
		want Request
		err  string // part of the error; empty when there is none
	}{
		{`{"open":{"peer":"node-b","wait_ms":5000}}`, open("node-b", 5000), ""},
		{`{"open":{"peer":"node-b"}}`, open("node-b", 0), ""},
		{`{"peers":true}`, Request{Peers: true}, ""},
		{` {"peers":true} `, Request{Peers: true}, ""},
		{``, Request{}, "unexpected EOF"},
		{`{}`, Request{}, "exactly one"},
		{`null`, Request{}, "exactly one"},
		{`{"peers":true,"open":{"peer":"b"}}`, Request{}, "exactly one"},
		{`{"peers":true}{"peers":true}`, Request{}, "bytes after the JSON object"},
		{`{"peers":true}x`, Request{}, "bytes after the JSON object"},
		{`{"opne":{"peer":"b"}}`, Request{}, `unknown field "opne"`},
		{`{"open":{"peer":""}}`, Request{}, "peer id of 0 bytes"},
		{`{"open":{"peer":"` + strings.Repeat("x", 65) + `"}}`, Request{}, "peer id of 65 bytes"},
		{`{"open":{"peer":"b","wait_ms":-1}}`, Request{}, "wait of -1 ms"},
		{`{"open":{"peer":"b","wait_ms":3600001}}`, Request{}, "wait of 3600001 ms"},
		{`PK`, Request{}, "invalid character"},
	} {
		got, err := ParseRequest([]byte(c.body))
		if c.err == "" {
			if err != nil || !reflect.DeepEqual(got, c.want) {
				t.Errorf("%s: got %+v, %v; want %+v", c.body, got, err, c.want)
			}
			continue
		}
		if !errors.Is(err, &Error{Code: CodeBadRequest}) || !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: error is %v, want a bad request with %q", c.body, err, c.err)
		}
	}
}

func TestReplyForms(t *testing.T) {
	peer := Peer{ID: "node-b", Paired: true, Addresses: []string{"10.0.0.2"}, Port: 34567, Session: true, Services: []string{"packagefs"}, AgeMS: 12}
	for _, c := range []struct {
		reply Reply
		want  string
	}{
		{Reply{OK: true}, `{"ok":true}`},
		{Reply{Error: "session lost node-b", Code: CodeSessionLost}, `{"error":"session lost node-b","code":"session-lost"}`},
		{Reply{Peers: []Peer{}}, `{"peers":[]}`},
		{Reply{Peers: []Peer{peer}}, `{"peers":[{"id":"node-b","paired":true,"addresses":["10.0.0.2"],"port":34567,"session":true,"services":["packagefs"],"age_ms":12}]}`},
	} {
		body, err := json.Marshal(c.reply)
		if err != nil {
			t.Fatal(err)
		}
		if string(body) != c.want {
			t.Errorf("form is %s, want %s", body, c.want)
		}
		back, err := ParseReply(body)
		if err != nil || !reflect.DeepEqual(back, c.reply) {
			t.Errorf("%s came back as %+v, %v", body, back, err)
		}
	}
}

func TestReplyErr(t *testing.T) {
	if err := (Reply{OK: true}).Err(); err != nil {
		t.Errorf("an ok reply is error %v", err)
	}
	err := Reply{Error: "no session with node-b", Code: CodeNoSession}.Err()
	if !errors.Is(err, &Error{Code: CodeNoSession}) || errors.Is(err, &Error{Code: CodeSessionLost}) {
		t.Errorf("%v has the wrong code", err)
	}
	if got := (Reply{Code: CodeNotPaired}).Err().Error(); got != "not-paired" {
		t.Errorf("an error without text reads %q", got)
	}
}

func TestParseReplyIgnoresNewFields(t *testing.T) {
	reply, err := ParseReply([]byte(`{"ok":true,"since":"tomorrow"}`))
	if err != nil || !reply.OK {
		t.Errorf("got %+v, %v", reply, err)
	}
	if _, err := ParseReply([]byte(`{"ok":`)); err == nil {
		t.Error("half an object was accepted")
	}
}

func FuzzControl(f *testing.F) {
	f.Add([]byte(`{"open":{"peer":"node-b","wait_ms":5000}}`))
	f.Add([]byte(`{"peers":[{"id":"b","age_ms":-1}],"more":true}`))
	f.Add([]byte(`{"error":"session lost node-b","code":"session-lost"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if req, err := ParseRequest(body); err == nil {
			if (req.Open == nil) == !req.Peers {
				t.Fatalf("accepted %s as %+v", body, req)
			}
			if req.Open != nil && (req.Open.Wait() < 0 || req.Open.Wait() > MaxWait) {
				t.Fatalf("accepted a wait of %v", req.Open.Wait())
			}
		} else if !errors.Is(err, &Error{Code: CodeBadRequest}) {
			t.Fatalf("error %v without the code", err)
		}
		reply, err := ParseReply(body)
		if err != nil {
			return
		}
		again, err := json.Marshal(reply)
		if err != nil {
			t.Fatal(err)
		}
		second, err := ParseReply(again)
		if err != nil || !reflect.DeepEqual(reply, second) {
			t.Fatalf("%+v became %+v, %v", reply, second, err)
		}
	})
}

func TestWait(t *testing.T) {
	if got := (Open{WaitMS: 1500}).Wait(); got != 1500*time.Millisecond {
		t.Errorf("wait is %v", got)
	}
}
