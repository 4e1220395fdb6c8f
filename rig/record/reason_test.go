package record

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"testing"
)

// constants returns the values of the string constants of a type in this package's source.
func constants(t *testing.T, file, typ string) []string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var values []string
	ast.Inspect(f, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if id, ok := spec.Type.(*ast.Ident); !ok || id.Name != typ {
			return true
		}
		for _, v := range spec.Values {
			if lit, ok := v.(*ast.BasicLit); ok {
				s, err := strconv.Unquote(lit.Value)
				if err != nil {
					t.Fatal(err)
				}
				values = append(values, s)
			}
		}
		return true
	})
	if len(values) == 0 {
		t.Fatalf("no constants of type %s in %s", typ, file)
	}
	return values
}

func TestEveryReasonIsInTheTable(t *testing.T) {
	inTable := make(map[Reason]bool)
	for _, info := range Reasons() {
		if inTable[info.Reason] {
			t.Errorf("%s is in the table twice", info.Reason)
		}
		inTable[info.Reason] = true
		if info.Meaning == "" || info.Next == "" {
			t.Errorf("%s has no meaning or no next step", info.Reason)
		}
		if info.Result.Green() {
			t.Errorf("%s leads to %s: a reason never leads to a green result", info.Reason, info.Result)
		}
		if info.Reason.Info() != info {
			t.Errorf("%s.Info() = %+v", info.Reason, info.Reason.Info())
		}
	}
	names := constants(t, "reason.go", "Reason")
	for _, name := range names {
		if !inTable[Reason(name)] {
			t.Errorf("reason %s is not in the table", name)
		}
	}
	if len(names) != len(inTable) {
		t.Errorf("%d constants, %d rows", len(names), len(inTable))
	}
}

func TestReasonsIsACopy(t *testing.T) {
	Reasons()[0].Meaning = "changed"
	if Reasons()[0].Meaning == "changed" {
		t.Error("the caller changed the table")
	}
}

func TestUnknownReason(t *testing.T) {
	info := Reason("from-the-future").Info()
	if info.Reason != "from-the-future" || info.Result != Broken || info.Next == "" {
		t.Errorf("Info of an unknown reason = %+v", info)
	}
}
