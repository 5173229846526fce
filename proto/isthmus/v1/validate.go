package isthmusv1

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Violation is one rule that a value breaks.
type Violation struct {
	// Path of the key as people write it in a definition, from the value's root,
	// like proxy.upstreams[1].mesh_gateway.mode. Members of maps stand by name:
	// subsets.v2.filter. Empty: the value as a whole.
	Path string
	// Text says what is wrong, in one sentence without a full stop.
	Text string
	// Fix says what to do about it.
	Fix string
}

// String shows the violation for people.
func (v Violation) String() string { return v.Path + ": " + v.Text + " (" + v.Fix + ")" }

// Violations are all rules that a value breaks, in the order of its keys.
type Violations []Violation

func (v *Violations) add(path, text, fix string) {
	*v = append(*v, Violation{Path: path, Text: text, Fix: fix})
}

// at puts the path of a part before the path of a key in it.
func at(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func item(path string, index int) string { return fmt.Sprintf("%s[%d]", path, index) }

// The limits of Consul on metadata and descriptions (structs.ValidateMetadata).
const (
	maxMetaPairs = 64
	maxMetaKey   = 128
	maxMetaValue = 512
)

// maxName is the longest name; the longest subject token that it can become
// stays far below the bus's limit.
const maxName = 512

// Wildcard stands for every service in intentions, and for every subset in a
// resolver's failover.
const Wildcard = "*"

// Errors of [ValidateName].
var (
	ErrNameEmpty   = errors.New("a name must not be empty")
	ErrNameTooLong = errors.New("a name has at most 512 bytes")
	ErrNameText    = errors.New("a name must be valid UTF-8 without control characters or surrounding spaces")
)

// ValidateName reports whether a text may name a service, node, instance,
// datacenter, namespace or partition. Consul allows nearly every text and so
// do we; refused is only what cannot be told apart on a screen or in a key.
func ValidateName(name string) error {
	switch {
	case name == "":
		return ErrNameEmpty
	case len(name) > maxName:
		return ErrNameTooLong
	case !utf8.ValidString(name) || strings.TrimSpace(name) != name || strings.ContainsFunc(name, unicode.IsControl):
		return ErrNameText
	}
	return nil
}

// name checks a name that must be there; an optional one is checked by
// optionalName.
func (v *Violations) name(path, name string) {
	if err := ValidateName(name); err != nil {
		v.add(path, err.Error(), "give a name")
	}
}

func (v *Violations) optionalName(path, name string) {
	if name != "" {
		v.name(path, name)
	}
}

// exactName checks a name that must be there and must not be the wildcard.
func (v *Violations) exactName(path, name string) {
	v.name(path, name)
	if name == Wildcard {
		v.add(path, "a wildcard is not a name here", "name one service")
	}
}

// oneOf checks a text against the list of legal ones; empty is legal.
func (v *Violations) oneOf(path, what, text string, legal ...string) {
	if text == "" {
		return
	}
	for _, l := range legal {
		if text == l {
			return
		}
	}
	v.add(path, fmt.Sprintf("Invalid %s: %q", what, text), "use one of "+quoted(legal))
}

func quoted(texts []string) string {
	out := make([]string, len(texts))
	for i, t := range texts {
		out[i] = fmt.Sprintf("%q", t)
	}
	if len(out) == 1 {
		return out[0]
	}
	return strings.Join(out[:len(out)-1], ", ") + " or " + out[len(out)-1]
}

// meshGateway checks a mode, exactly and with its case, in the words that
// Consul uses for files.
func (v *Violations) meshGateway(path string, gateway *MeshGateway) {
	v.oneOf(at(path, "mesh_gateway.mode"), "Mesh Gateway Mode", gateway.GetMode(),
		string(ModeNone), string(ModeLocal), string(ModeRemote))
}

func (v *Violations) port(path string, port uint32) {
	if port > 65535 {
		v.add(path, fmt.Sprintf("port %d is out of range", port), "use a port from 1 to 65535")
	}
}

func (v *Violations) percent(path string, value *uint32) {
	if value != nil && *value > 100 {
		v.add(path, fmt.Sprintf("%d is not a percentage", *value), "use a number from 0 to 100")
	}
}

func (v *Violations) meta(path string, meta []*KeyValue) {
	if len(meta) > maxMetaPairs {
		v.add(path, fmt.Sprintf("%d pairs are more than %d", len(meta), maxMetaPairs), "keep fewer pairs")
	}
	for _, pair := range meta {
		switch {
		case pair.GetKey() == "":
			v.add(path, "a key must not be empty", "name the key")
		case len(pair.GetKey()) > maxMetaKey:
			v.add(at(path, pair.GetKey()), fmt.Sprintf("the key is longer than %d bytes", maxMetaKey), "use a shorter key")
		case len(pair.GetValue()) > maxMetaValue:
			v.add(at(path, pair.GetKey()), fmt.Sprintf("the value is longer than %d bytes", maxMetaValue), "use a shorter value")
		}
	}
}

func (v *Violations) expose(path string, expose *Expose) {
	for i, p := range expose.GetPaths() {
		place := item(at(path, "expose.paths"), i)
		if !strings.HasPrefix(p.GetPath(), "/") {
			v.add(at(place, "path"), fmt.Sprintf("path %q does not begin with /", p.GetPath()), "begin the path with /")
		}
		v.requiredPort(at(place, "listener_port"), p.GetListenerPort())
		v.requiredPort(at(place, "local_path_port"), p.GetLocalPathPort())
		v.oneOf(at(place, "protocol"), "protocol", strings.ToLower(p.GetProtocol()), "http", "http2")
	}
}

func (v *Violations) requiredPort(path string, port uint32) {
	if port == 0 {
		v.add(path, "the port is missing", "give a port from 1 to 65535")
	}
	v.port(path, port)
}

func (v *Violations) accessLogs(path string, logs *AccessLogs) {
	v.oneOf(at(path, "access_logs.type"), "access log type", logs.GetType(), "stdout", "stderr", "file")
	if logs.GetType() == "file" && logs.GetPath() == "" {
		v.add(at(path, "access_logs.path"), "access logs to a file need a path", "give path")
	}
	if logs.GetType() != "file" && logs.GetPath() != "" {
		v.add(at(path, "access_logs.path"), "a path is only for access logs to a file", `set type = "file" or leave out path`)
	}
	if logs.GetJsonFormat() != "" && logs.GetTextFormat() != "" {
		v.add(at(path, "access_logs.text_format"), "access logs have one format", "give json_format or text_format, not both")
	}
}
