// Package isthmusv1 is the model: what stands in the streams, and the rules on
// its values.
//
// The messages are generated from the .proto files beside this one. Written by
// hand are the things that every reader and writer must agree on: keys ([Key]),
// transactions as a machine receives them ([Transaction]), the basis
// ([Basis]), wire names ([SNI], [SPIFFEID]), modes ([Mode]), address and health
// rules ([WANAddress], [InstanceHealth]), and which values are legal.
//
// The promises: equal values marshal to equal bytes ([Marshal]); a value that
// was applied is never written to again, so it may be shared between
// goroutines; unknown fields survive.
package isthmusv1
