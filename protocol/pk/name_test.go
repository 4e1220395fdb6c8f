package pk

import (
	"strings"
	"testing"
)

func TestResolvePath(t *testing.T) {
	long := "pkg:/" + strings.Repeat("a", 187)
	tests := []struct {
		path   string
		status Status
		name   Name
	}{
		{"pkg:/system/build.prop", OK, Name{"system", "", "build.prop"}},
		{"/packages/system/build.prop", OK, Name{"system", "", "build.prop"}},
		{"pkg:/system@1.0.0/build.prop", OK, Name{"system", "1.0.0", "build.prop"}},
		{"/packages/system@1.0.0/etc/a/b", OK, Name{"system", "1.0.0", "etc/a/b"}},
		{"pkg:/system", OK, Name{"system", "", ""}},
		{"pkg:/system@2.0.0", OK, Name{"system", "2.0.0", ""}},
		{"pkg:/system/x@1", OK, Name{"system", "", "x@1"}},
		{"pkg:/a@b@c/x", OK, Name{"a", "b@c", "x"}},
		{"pkg:/system@/x", OK, Name{"system@", "", "x"}},
		{"pkg:/@1.0.0/x", OK, Name{"@1.0.0", "", "x"}},
		{"pkg:/...", OK, Name{"...", "", ""}},
		{"pkg:/a/..b", OK, Name{"a", "", "..b"}},
		{"pkg:/a/b..", OK, Name{"a", "", "b.."}},
		{"pkg:/a/.b", OK, Name{"a", "", ".b"}},
		{"pkg:/%2e%2e/x", OK, Name{"%2e%2e", "", "x"}},
		{"pkg:/a/ü", OK, Name{"a", "", "ü"}},
		{"pkg:/pkg:/a", OK, Name{"pkg:", "", "a"}},
		{long, OK, Name{long[5:], "", ""}},

		{"", Oversized, Name{}},
		{long + "a", Oversized, Name{}},
		{strings.Repeat("\xff", 193), Oversized, Name{}}, // length comes before UTF-8
		{"pkg:/", Oversized, Name{}},
		{"/packages/", Oversized, Name{}},

		{"pkg:/\xff", BadRequest, Name{}},
		{"file:\xff", BadRequest, Name{}}, // UTF-8 comes before the prefix

		{"pkg:system/x", NonPackageFSScheme, Name{}},
		{"PKG:/x", NonPackageFSScheme, Name{}},
		{"Pkg:/x", NonPackageFSScheme, Name{}},
		{"/Packages/x", NonPackageFSScheme, Name{}},
		{"/packages", NonPackageFSScheme, Name{}},
		{" pkg:/x", NonPackageFSScheme, Name{}},
		{"file:/etc/passwd", NonPackageFSScheme, Name{}},
		{"/etc/passwd", NonPackageFSScheme, Name{}},
		{"packages/x", NonPackageFSScheme, Name{}},
		{"x", NonPackageFSScheme, Name{}},
		{"//packages/x", NonPackageFSScheme, Name{}},
		{"../packages/x", NonPackageFSScheme, Name{}},

		{"pkg://x", PathTraversal, Name{}},
		{"pkg:/a//b", PathTraversal, Name{}},
		{"pkg:/a/", PathTraversal, Name{}},
		{"pkg:/a/./b", PathTraversal, Name{}},
		{"pkg:/../x", PathTraversal, Name{}},
		{"pkg:/..", PathTraversal, Name{}},
		{"pkg:/.", PathTraversal, Name{}},
		{"pkg:/a/..", PathTraversal, Name{}},
		{`pkg:/a\b`, PathTraversal, Name{}},
		{`pkg:/a/..\..\x`, PathTraversal, Name{}},
		{"pkg:/a\x00b", PathTraversal, Name{}},
		{"/packages//x", PathTraversal, Name{}},
		{"/packages/../etc/passwd", PathTraversal, Name{}},
	}
	for _, tt := range tests {
		name, status := ResolvePath(tt.path, DefaultLimits())
		if status != tt.status || name != tt.name {
			t.Errorf("ResolvePath(%q) = %+v, %s; want %+v, %s", tt.path, name, status, tt.name, tt.status)
		}
	}
}

func TestNameRel(t *testing.T) {
	tests := map[Name]string{
		{"system", "", "build.prop"}:      "system/build.prop",
		{"system", "1.0.0", "build.prop"}: "system@1.0.0/build.prop",
		{"system", "", ""}:                "system",
		{"system", "1.0.0", ""}:           "system@1.0.0",
	}
	for name, want := range tests {
		if got := name.Rel(); got != want {
			t.Errorf("%+v.Rel() = %q, want %q", name, got, want)
		}
	}
}

func FuzzResolvePath(f *testing.F) {
	for _, s := range []string{"pkg:/system@1.0.0/build.prop", "/packages/a/b", "pkg:/../x", "pkg:/", "", "pkg:/a@/b", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		name, status := ResolvePath(path, DefaultLimits())
		if status != OK {
			if name != (Name{}) {
				t.Errorf("status %s with the name %+v", status, name)
			}
			return
		}
		rel := name.Rel()
		if !strings.HasSuffix(path, "/"+rel) || len(path)-len(rel) != len("pkg:/") && len(path)-len(rel) != len("/packages/") {
			t.Errorf("%q became %q", path, rel)
		}
		for segment := range strings.SplitSeq(rel, "/") {
			if segment == "" || segment == "." || segment == ".." || strings.ContainsAny(segment, "\\\x00") {
				t.Errorf("%q let the segment %q through", path, segment)
			}
		}
	})
}
