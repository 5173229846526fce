package resource

import (
	"regexp"
	"slices"
	"strings"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// modifiers are headers to add, of which those that are set take the place of others,
// and to remove.
func modifiers(m *isthmusv1.HeaderModifiers) (add []*core.HeaderValueOption, remove []string) {
	for _, p := range m.GetAdd() {
		if modifiable(p.GetName()) && headerValue(p.GetValue()) {
			add = append(add, &core.HeaderValueOption{Header: &core.HeaderValue{Key: p.GetName(), Value: p.GetValue()}})
		}
	}
	for _, p := range m.GetSet() {
		if modifiable(p.GetName()) && headerValue(p.GetValue()) {
			add = append(add, &core.HeaderValueOption{
				Header:       &core.HeaderValue{Key: p.GetName(), Value: p.GetValue()},
				AppendAction: core.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
			})
		}
	}
	for _, name := range m.GetRemove() {
		if modifiable(name) {
			remove = append(remove, name)
		}
	}
	return add, remove
}

// longestHeader is the longest name or value of a header that an Envoy writes.
const longestHeader = 16384

// modifiable reports whether an Envoy lets a header be modified: of what it routes by it
// refuses that.
func modifiable(name string) bool {
	return headerName(name) && len(name) <= longestHeader && name[0] != ':' && !strings.EqualFold(name, "host")
}

// headerValue reports whether an Envoy takes the value of a header. Percent signs stand
// around commands there, as in %DOWNSTREAM_REMOTE_ADDRESS%, and one that it does not know
// it refuses with all that comes with it.
func headerValue(value string) bool {
	if len(value) > longestHeader || !plainText(value) {
		return false
	}
	left := percents.ReplaceAllStringFunc(value, func(found string) string {
		parts := percents.FindStringSubmatch(found)
		name, parameters, length := parts[1], parts[2], parts[3]
		known := commands
		switch {
		case length != "":
			known = shortened
		case parameters != "":
			known = commandsOf
		}
		if found == "%%" || slices.Contains(known, name) {
			return ""
		}
		return found
	})
	return !strings.Contains(left, "%")
}

// plainText reports whether a text may stand in a header.
func plainText(text string) bool { return !strings.ContainsAny(text, "\x00\r\n") }

var percents = regexp.MustCompile(`%(?:([A-Z][A-Z0-9_]*)(?:(\([^%()?]+(?:\?[^%()?]+)?\))(:[0-9]{1,9})?)?)?%`)

// commands are those of Envoy 1.36 and later that take no parameters, commandsOf those
// that must have some, and shortened those of which a length may be asked.
var (
	commands = []string{
		"BYTES_RECEIVED", "BYTES_SENT", "CONNECTION_ID", "DURATION", "HOSTNAME", "PROTOCOL", "REQUESTED_SERVER_NAME",
		"RESPONSE_CODE", "RESPONSE_CODE_DETAILS", "RESPONSE_FLAGS", "ROUTE_NAME", "START_TIME", "STREAM_ID",
		"DOWNSTREAM_DIRECT_REMOTE_ADDRESS", "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT",
		"DOWNSTREAM_LOCAL_ADDRESS", "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", "DOWNSTREAM_LOCAL_PORT",
		"DOWNSTREAM_LOCAL_SUBJECT", "DOWNSTREAM_LOCAL_URI_SAN", "DOWNSTREAM_PEER_CERT", "DOWNSTREAM_PEER_CERT_V_END",
		"DOWNSTREAM_PEER_CERT_V_START", "DOWNSTREAM_PEER_FINGERPRINT_1", "DOWNSTREAM_PEER_FINGERPRINT_256",
		"DOWNSTREAM_PEER_ISSUER", "DOWNSTREAM_PEER_SERIAL", "DOWNSTREAM_PEER_SUBJECT", "DOWNSTREAM_PEER_URI_SAN",
		"DOWNSTREAM_REMOTE_ADDRESS", "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", "DOWNSTREAM_REMOTE_PORT",
		"DOWNSTREAM_TLS_CIPHER", "DOWNSTREAM_TLS_SESSION_ID", "DOWNSTREAM_TLS_VERSION",
		"UPSTREAM_CLUSTER", "UPSTREAM_LOCAL_ADDRESS", "UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", "UPSTREAM_LOCAL_PORT",
		"UPSTREAM_REMOTE_ADDRESS", "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", "UPSTREAM_REMOTE_PORT", "VIRTUAL_CLUSTER_NAME",
	}
	commandsOf = []string{"DYNAMIC_METADATA", "ENVIRONMENT", "REQ", "RESP", "TRAILER"}
	shortened  = []string{"ENVIRONMENT", "REQ", "RESP", "TRAILER"}
)
