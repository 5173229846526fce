package resolver

import (
	"fmt"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// Codes of the problems that routes state. They are stable.
const (
	// CodeUnknownDatacenter: the target's datacenter is not known here.
	CodeUnknownDatacenter = "UNKNOWN_DATACENTER"
	// CodeNoCatalog: the datacenter is known and its catalog is not here.
	CodeNoCatalog = "NO_CATALOG"
	// CodeNoGateway: a datacenter on the way has no mesh gateway.
	CodeNoGateway = "NO_GATEWAY"
	// CodeGatewaysFailing: all mesh gateways of a datacenter fail their checks.
	CodeGatewaysFailing = "GATEWAYS_FAILING"
	// CodeNoInstance: the target has no instance in the mesh.
	CodeNoInstance = "NO_INSTANCE"
	// CodeInvalidMode: the deciding mode is none of Consul's; it acts as none.
	CodeInvalidMode = "INVALID_MODE"
	// CodeUnknownSubset: no service-resolver defines the subset.
	CodeUnknownSubset = "UNKNOWN_SUBSET"
	// CodeBadFilter: the subset's filter cannot be evaluated; it takes nothing.
	CodeBadFilter = "BAD_FILTER"
	// CodeRedirectLoop: redirects lead back to where they came from.
	CodeRedirectLoop = "REDIRECT_LOOP"
	// CodeSplitLoop: splitters lead back to where they came from.
	CodeSplitLoop = "SPLIT_LOOP"
	// CodeProtocolNotHTTP: a router or splitter of a service that is not HTTP.
	CodeProtocolNotHTTP = "PROTOCOL_NOT_HTTP"
	// CodeMixedProtocols: the services of one chain have several protocols.
	CodeMixedProtocols = "MIXED_PROTOCOLS"
	// CodeUnknownQuery: there is no prepared query of this name.
	CodeUnknownQuery = "UNKNOWN_PREPARED_QUERY"
	// CodeUnsupported: registered or written, known, and not supported.
	CodeUnsupported = "UNSUPPORTED"
	// CodeNoDestination: a proxy or upstream without a destination.
	CodeNoDestination = "NO_DESTINATION"
	// CodeNoAddress: neither the instance nor its node has an address.
	CodeNoAddress = "NO_ADDRESS"
	// CodeInvalidSetting: a setting of a gateway's registration cannot be read.
	CodeInvalidSetting = "INVALID_SETTING"
	// CodeNoBind: a gateway's registration leaves it nowhere to listen.
	CodeNoBind = "NO_BIND"
	// CodeInvalidPolicy: the default intention policy is neither allow nor deny.
	CodeInvalidPolicy = "INVALID_INTENTION_POLICY"
	// CodePermissionsNeedHTTP: permissions of a service that is not HTTP deny.
	CodePermissionsNeedHTTP = "PERMISSIONS_NEED_HTTP"
	// CodeBadRegex: an expression that Envoy does not take.
	CodeBadRegex = "BAD_REGEX"
	// CodeModePendingAgent: a proxy shows another mode than its config entries
	// come to, and its agent has probably not merged them yet.
	CodeModePendingAgent = "MODE_PENDING_AGENT"
)

// Codes that only explanations and [Machine.Audit] state. They are stable too.
const (
	// CodeStickyDefaults: a mode in UpstreamConfig.Defaults that nobody may have
	// written: Consul's servers keep there what was inherited once.
	CodeStickyDefaults = "STICKY_DEFAULTS"
	// CodeHiddenMode: a mode that decides for no upstream of any proxy.
	CodeHiddenMode = "HIDDEN_MODE"
	// CodeCaseClash: services whose names differ only in case.
	CodeCaseClash = "CASE_CLASH"
)

func problemError(code, fix, format string, args ...any) *isthmusv1.Problem {
	return &isthmusv1.Problem{
		Code: code, Severity: isthmusv1.Severity_SEVERITY_ERROR,
		Text: fmt.Sprintf(format, args...), Fix: fix,
	}
}

func problemWarning(code, fix, format string, args ...any) *isthmusv1.Problem {
	p := problemError(code, fix, format, args...)
	p.Severity = isthmusv1.Severity_SEVERITY_WARNING
	return p
}

// unsupported states something that is known and not done.
func unsupported(format string, args ...any) *isthmusv1.Problem {
	return problemWarning(CodeUnsupported, "", format, args...)
}
