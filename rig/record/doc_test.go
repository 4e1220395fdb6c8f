package record

import (
	"os"
	"reflect"
	"strings"
	"testing"
)

func TestDocumentNamesEverything(t *testing.T) {
	data, err := os.ReadFile("../../docs/record.md")
	if err != nil {
		t.Fatal(err)
	}
	doc := string(data)
	named := func(what, name string) {
		t.Helper()
		if !strings.Contains(doc, "`"+name+"`") {
			t.Errorf("docs/record.md does not name the %s `%s`", what, name)
		}
	}
	fields := make(map[string]bool)
	collect(reflect.TypeFor[Event](), fields)
	collect(reflect.TypeFor[Summary](), fields)
	if len(fields) < 40 {
		t.Fatalf("only %d fields found: %v", len(fields), fields)
	}
	// Small objects are documented as {a, b}.
	inline := strings.NewReplacer("{name, seconds, limit}", "`name` `seconds` `limit`", "{name, seconds}", "`name` `seconds`")
	doc = inline.Replace(doc)
	for name := range fields {
		named("field", name)
	}
	for _, name := range constants(t, "event.go", "Kind") {
		named("event kind", name)
	}
	for _, name := range constants(t, "result.go", "Result") {
		named("result", name)
	}
	for _, info := range Reasons() {
		named("reason", string(info.Reason))
		if row := "| `" + string(info.Reason) + "` | " + string(info.Result) + " | " + info.Meaning + " |"; !strings.Contains(doc, row) {
			t.Errorf("docs/record.md lacks the row %s", row)
		}
	}
	for _, name := range []string{EventsFile, SummaryFile, JUnitFile, LatestLink, CaptureFile, KeysFile, workDir, consoleFile, journalFile, qemuLogFile, qemuCmdFile} {
		if !strings.Contains(doc, name) {
			t.Errorf("docs/record.md does not name %s", name)
		}
	}
}

// collect adds the JSON names of t's fields, and of those of the structs it leads to.
func collect(t reflect.Type, names map[string]bool) {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		collect(t.Elem(), names)
	case reflect.Struct:
		if t.PkgPath() != reflect.TypeFor[Event]().PkgPath() {
			return
		}
		for i := range t.NumField() {
			f := t.Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if name == "" || name == "-" {
				panic("field without a JSON name: " + t.Name() + "." + f.Name)
			}
			names[name] = true
			collect(f.Type, names)
		}
	}
}
