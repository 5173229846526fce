package bus_test

import (
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/isthmus-mesh/isthmus/bus"
	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

func TestSubjects(t *testing.T) {
	for _, test := range []struct {
		key  isthmusv1.Key
		want string
	}{
		{isthmusv1.RootsKey(), "isthmus.catalog.dc1.roots"},
		{isthmusv1.NodeKey("", "web-1"), "isthmus.catalog.dc1.node.web-1"},
		{isthmusv1.NewKey("node", "Web.One"), "isthmus.catalog.dc1.node.Web%2EOne"},
		{isthmusv1.NewKey("node", "a b"), "isthmus.catalog.dc1.node.a%20b"},
		{isthmusv1.NewKey("config", "service-intentions", "*"), "isthmus.catalog.dc1.config.service-intentions.%2A"},
		{isthmusv1.NewKey("node", ">", "", "%"), "isthmus.catalog.dc1.node.%3E.%.%25"},
		{isthmusv1.NewKey("node", "größe"), "isthmus.catalog.dc1.node.gr%C3%B6%C3%9Fe"},
		{isthmusv1.InstanceKey("ap1", "n", "team", "id:1"), "isthmus.catalog.dc1.instance.ap1/n.team/id:1"},
		{isthmusv1.NewKey("node", "tab\t", "\xff"), "isthmus.catalog.dc1.node.tab%09.%FF"},
	} {
		got, err := bus.Subject(isthmusv1.ClassCatalog, "dc1", test.key)
		if err != nil || got != test.want {
			t.Errorf("%q: got %q, %v, want %q", test.key, got, err, test.want)
		}
		class, dc, key, err := bus.ParseSubject(got)
		if err != nil || class != isthmusv1.ClassCatalog || dc != "dc1" || key != test.key {
			t.Errorf("%q comes back as %q %q %q, %v", got, class, dc, key, err)
		}
	}
}

func TestSubjectsThatNameNothing(t *testing.T) {
	for _, subject := range []string{
		"", "isthmus", "isthmus.catalog.dc1", "other.catalog.dc1.node", "isthmus.catalog.dc1.node.",
		"isthmus.catalog..node", "isthmus.catalog.dc1.node.a b", "isthmus.catalog.dc1.node.*", "isthmus.catalog.dc1.node.%2e",
		"isthmus.catalog.dc1.node.%2", "isthmus.catalog.dc1.node.%ZZ", "isthmus.catalog.dc1.node.%61", "isthmus.catalog.dc1.node.a%00b",
		"isthmus.catalog.dc1.node.%", "Isthmus.catalog.dc1.node.a",
	} {
		if _, _, key, err := bus.ParseSubject(subject); !errors.Is(err, bus.ErrMalformed) {
			t.Errorf("%q was read as %q, %v", subject, key, err)
		}
	}
}

func TestAVeryLongName(t *testing.T) {
	long := strings.Repeat("a", 3000)
	subject, err := bus.Subject(isthmusv1.ClassCatalog, "dc1", isthmusv1.NodeKey("", long))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, key, err := bus.ParseSubject(subject); err != nil || key.Parts()[0] != long {
		t.Errorf("it comes back with %d bytes, %v", len(key.Parts()[0]), err)
	}
	if _, err := bus.Subject(isthmusv1.ClassCatalog, "dc1", isthmusv1.NodeKey("", strings.Repeat("a", bus.MaxSubject))); !errors.Is(err, bus.ErrTooLarge) {
		t.Errorf("longer than a server takes: %v", err)
	}
}

// Any name survives and comes back, and the subject is one that a server takes.
func TestSubjectsRoundTrip(t *testing.T) {
	name := rapid.OneOf(rapid.StringMatching(`[^\x00]{0,40}`), rapid.SampledFrom([]string{"", ".", "*", ">", "..", "% ", "A", "a", "ключ", "a/b"}))
	rapid.Check(t, func(t *rapid.T) {
		kind := isthmusv1.Kind(rapid.SampledFrom([]string{"node", "config", "sni"}).Draw(t, "kind"))
		key := isthmusv1.NewKey(kind, rapid.SliceOfN(name, 0, 5).Draw(t, "parts")...)
		checkSubject(t, "dc-"+name.Draw(t, "dc"), key)
	})
}

func checkSubject(t interface{ Fatalf(string, ...any) }, dc string, key isthmusv1.Key) {
	subject, err := bus.Subject(isthmusv1.ClassRoutes, dc, key)
	if errors.Is(err, bus.ErrTooLarge) {
		return
	}
	if err != nil {
		t.Fatalf("%q: %v", key, err)
	}
	for token := range strings.SplitSeq(subject, ".") {
		if token == "" || strings.ContainsAny(token, " \t\r\n*>\x00") {
			t.Fatalf("%q is no legal subject", subject)
		}
	}
	class, backDC, back, err := bus.ParseSubject(subject)
	if err != nil || class != isthmusv1.ClassRoutes || backDC != dc || back != key {
		t.Fatalf("%q comes back as %q %q %q, %v", subject, class, backDC, back, err)
	}
}

func FuzzSubject(f *testing.F) {
	f.Add("node", "a", "b.c")
	f.Add("config", "*", ">")
	f.Add("", "", "\xff ")
	f.Fuzz(func(t *testing.T, kind, a, b string) {
		if strings.Contains(kind+a+b, "\x00") {
			t.Skip("NUL is in no legal name")
		}
		checkSubject(t, a, isthmusv1.NewKey(isthmusv1.Kind(kind), a, b))
	})
}

// Whatever is read as a subject is exactly the subject of what was read.
func FuzzParseSubject(f *testing.F) {
	f.Add("isthmus.catalog.dc1.node.web%2Eone")
	f.Add("isthmus.routes.dc1.sni.%.%25")
	f.Add("isthmus.status.%.%.%00")
	f.Fuzz(func(t *testing.T, subject string) {
		class, dc, key, err := bus.ParseSubject(subject)
		if err != nil {
			if !errors.Is(err, bus.ErrMalformed) {
				t.Fatalf("%v", err)
			}
			return
		}
		if back, err := bus.Subject(class, dc, key); err != nil || back != subject {
			t.Fatalf("%q goes back to %q, %v", subject, back, err)
		}
	})
}
