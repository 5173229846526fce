package resource

import (
	"encoding/json"
	"errors"
	"regexp"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	httpmanager "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoregistry"

	_ "github.com/cncf/xds/go/xds/type/v3" // TypedStruct
)

// errNoName indicates a cluster or listener of somebody's own without a name.
var errNoName = errors.New("it has no name")

const (
	typedStruct = "type.googleapis.com/xds.type.v3.TypedStruct"
	typeKey     = "@type"
)

// readHatch reads a resource that somebody wrote as JSON. An extension that this program
// does not know is passed on as it stands (as a TypedStruct): the Envoy may know it.
// What breaks the rules that the types state of themselves no Envoy takes.
func readHatch[M interface {
	proto.Message
	Validate() error
}](text string, into M) (M, error) {
	var value any
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		return into, err
	}
	object, ok := value.(map[string]any)
	if !ok {
		return into, errors.New("it is no JSON object")
	}
	delete(object, typeKey) // Consul takes it with or without.
	known, err := json.Marshal(passUnknown(object))
	if err != nil {
		return into, err
	}
	if err := protojson.Unmarshal(known, into); err != nil {
		return into, plain(err)
	}
	return into, into.Validate()
}

// placed is where an error is in JSON that nobody wrote so; the field says where it is.
var placed = regexp.MustCompile(`\(line \d+:\d+\): `)

// plain is an error of the library in words that do not differ from build to build.
func plain(err error) error {
	if err == nil {
		return nil
	}
	text := strings.TrimPrefix(strings.ReplaceAll(err.Error(), "\u00a0", " "), "proto: ")
	return errors.New(placed.ReplaceAllString(text, ""))
}

// passUnknown wraps extensions of types that are not known here.
func passUnknown(value any) any {
	switch v := value.(type) {
	case []any:
		for i := range v {
			v[i] = passUnknown(v[i])
		}
	case map[string]any:
		name, typed := v[typeKey].(string)
		if typed {
			if _, err := protoregistry.GlobalTypes.FindMessageByURL(name); err != nil {
				delete(v, typeKey)
				return map[string]any{typeKey: typedStruct, "type_url": name, "value": v}
			}
		}
		for key := range v {
			v[key] = passUnknown(v[key])
		}
	}
	return value
}

func readCluster(text string) (*clusterv3.Cluster, error) {
	c, err := readHatch(text, &clusterv3.Cluster{})
	if err == nil && c.GetName() == "" {
		err = errNoName
	}
	return c, err
}

func readListener(text string) (*listenerv3.Listener, error) {
	l, err := readHatch(text, &listenerv3.Listener{})
	if err == nil && l.GetName() == "" {
		err = errNoName
	}
	return l, err
}

func readTracing(text string) (*httpmanager.HttpConnectionManager_Tracing, error) {
	return readHatch(text, &httpmanager.HttpConnectionManager_Tracing{})
}
