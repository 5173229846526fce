// Package enginetest holds every engine of the gateway to one behaviour: seeded
// clients, some well-behaved and some not, go through an engine to real TLS
// servers and to servers that look at the bytes, and what both ends see is
// compared with what they should.
//
// An engine is described by a [Rig]. Where another product does otherwise on
// purpose or by nature, the Rig says so in Differs, case by case; a case that
// is listed there and does not differ fails too.
package enginetest
