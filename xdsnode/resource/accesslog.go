package resource

import (
	"encoding/json"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	fileaccess "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	streamaccess "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/stream/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// accessLogFields are those of a line where no format is given: Consul's (agent/xds
// accesslogs), so that whoever reads its lines reads these.
var accessLogFields = map[string]string{
	"start_time":                        "%START_TIME%",
	"method":                            "%REQ(:METHOD)%",
	"path":                              "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
	"protocol":                          "%PROTOCOL%",
	"response_code":                     "%RESPONSE_CODE%",
	"response_flags":                    "%RESPONSE_FLAGS%",
	"response_code_details":             "%RESPONSE_CODE_DETAILS%",
	"connection_termination_details":    "%CONNECTION_TERMINATION_DETAILS%",
	"upstream_transport_failure_reason": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
	"bytes_received":                    "%BYTES_RECEIVED%",
	"bytes_sent":                        "%BYTES_SENT%",
	"duration":                          "%DURATION%",
	"upstream_service_time":             "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
	"x_forwarded_for":                   "%REQ(X-FORWARDED-FOR)%",
	"user_agent":                        "%REQ(USER-AGENT)%",
	"request_id":                        "%REQ(X-REQUEST-ID)%",
	"authority":                         "%REQ(:AUTHORITY)%",
	"upstream_host":                     "%UPSTREAM_HOST%",
	"upstream_cluster":                  "%UPSTREAM_CLUSTER%",
	"upstream_local_address":            "%UPSTREAM_LOCAL_ADDRESS%",
	"downstream_local_address":          "%DOWNSTREAM_LOCAL_ADDRESS%",
	"downstream_remote_address":         "%DOWNSTREAM_REMOTE_ADDRESS%",
	"requested_server_name":             "%REQUESTED_SERVER_NAME%",
	"route_name":                        "%ROUTE_NAME%",
}

// requestLogs are the logs of what a filter carries: requests, or connections.
func requestLogs(logs *isthmusv1.AccessLogs) []*accesslogv3.AccessLog {
	if !logs.GetEnabled() {
		return nil
	}
	return []*accesslogv3.AccessLog{{Name: "Consul Listener Filter Log", ConfigType: &accesslogv3.AccessLog_TypedConfig{TypedConfig: packed(accessLog(logs))}}}
}

// listenerLogs are those of connections that no filter chain takes.
func listenerLogs(logs *isthmusv1.AccessLogs) []*accesslogv3.AccessLog {
	if !logs.GetEnabled() || logs.GetDisableListenerLogs() {
		return nil
	}
	return []*accesslogv3.AccessLog{{
		Name: "Consul Listener Log",
		Filter: &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_ResponseFlagFilter{
			ResponseFlagFilter: &accesslogv3.ResponseFlagFilter{Flags: []string{"NR"}},
		}},
		ConfigType: &accesslogv3.AccessLog_TypedConfig{TypedConfig: packed(accessLog(logs))},
	}}
}

func accessLog(logs *isthmusv1.AccessLogs) proto.Message {
	format := logFormat(logs)
	switch logs.GetType() {
	case "file":
		return &fileaccess.FileAccessLog{Path: logs.GetPath(), AccessLogFormat: &fileaccess.FileAccessLog_LogFormat{LogFormat: format}}
	case "stderr":
		return &streamaccess.StderrAccessLog{AccessLogFormat: &streamaccess.StderrAccessLog_LogFormat{LogFormat: format}}
	}
	return &streamaccess.StdoutAccessLog{AccessLogFormat: &streamaccess.StdoutAccessLog_LogFormat{LogFormat: format}}
}

// logFormat is the text that was given, with a line's end, or the JSON object, or the
// fields above.
func logFormat(logs *isthmusv1.AccessLogs) *core.SubstitutionFormatString {
	if text := logs.GetTextFormat(); text != "" {
		return &core.SubstitutionFormatString{Format: &core.SubstitutionFormatString_TextFormatSource{
			TextFormatSource: &core.DataSource{Specifier: &core.DataSource_InlineString{InlineString: text + "\n"}},
		}}
	}
	object := &structpb.Struct{Fields: map[string]*structpb.Value{}}
	var given map[string]any
	if json.Unmarshal([]byte(logs.GetJsonFormat()), &given) == nil && len(given) > 0 {
		if read, err := structpb.NewStruct(given); err == nil {
			object = read
		}
	}
	if len(object.GetFields()) == 0 {
		for name, value := range accessLogFields {
			object.Fields[name] = structpb.NewStringValue(value)
		}
	}
	return &core.SubstitutionFormatString{Format: &core.SubstitutionFormatString_JsonFormat{JsonFormat: object}}
}
