// Package demo holds the catalog that `isthmus demo` and `isthmus dev` run:
// two datacenters on loopback, one address per host, with the upstreams of the
// seed's example for a proxy upstream.
package demo

import (
	"embed"
	"io/fs"
)

//go:embed catalog
var files embed.FS

// Catalog is the catalog's directory: one directory per datacenter.
func Catalog() fs.FS {
	catalog, err := fs.Sub(files, "catalog")
	if err != nil {
		panic(err) // The name is a constant of this file.
	}
	return catalog
}
