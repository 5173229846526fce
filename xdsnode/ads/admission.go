package ads

import (
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/isthmus-mesh/isthmus/xdsnode"
)

// admit decides whether a client may have the proxy that it asks for, of those that this
// may mean. It is pure. A client hears the same of a proxy that is another's as of one
// that is not there, and no names but those of its own; why is for the node's log.
func admit(candidates []*xdsnode.Proxy, uri, asked string) (why string, err error) {
	var own []string
	for _, p := range candidates {
		if uri != "" && p.Routes.GetSpiffeId() == uri { // Whoever is nobody has no proxy.
			own = append(own, p.Name())
		}
	}
	switch {
	case len(own) == 0:
		err = status.Errorf(codes.PermissionDenied, "%s may not be served as %s: the datacenter has no such proxy of that identity", uri, asked)
		return whose(candidates), err
	case len(candidates) > 1:
		// Which one was meant must not hang on whether the other was registered.
		err = status.Errorf(codes.FailedPrecondition, "%s: %v: %s", asked, xdsnode.ErrAmbiguous, strings.Join(own, ", "))
		return whose(candidates), err
	}
	return "", nil
}

// whose says which proxies there are, and who may have them.
func whose(candidates []*xdsnode.Proxy) string {
	if len(candidates) == 0 {
		return xdsnode.ErrNoProxy.Error()
	}
	said := make([]string, len(candidates))
	for i, p := range candidates {
		said[i] = fmt.Sprintf("%s is served to %s", p.Name(), orNobody(p.Routes.GetSpiffeId()))
	}
	return strings.Join(said, "; ")
}

func orNobody(uri string) string {
	if uri == "" {
		return "nobody"
	}
	return uri
}

// asked is what an Envoy asked for, as it is shown.
func asked(node, id string) string { return strings.TrimPrefix(node+"/"+id, "/") }
