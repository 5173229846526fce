package isthmusv1

// What an Envoy and the processes beside it call each other by. The resources of an xds
// node, the bootstrap and the socket of the secrets have to agree on them.
const (
	// SecretLeaf is the secret that is a proxy's leaf, its chain and its key.
	SecretLeaf = "leaf"
	// SecretRoots is what a proxy checks its peers against.
	SecretRoots = "roots"
	// ClusterSDS is the cluster, in every bootstrap, of the socket where the secrets are
	// had.
	ClusterSDS = "isthmus_sds"
	// ServiceXDS is the service as which an xds node shows itself to Envoys.
	ServiceXDS = "isthmus-xds"
)
