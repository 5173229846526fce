// Package sim is the simulation of the control plane: the machines, two
// watchers of each of two datacenters, two resolvers and readers run on an
// in-memory log inside one testing/synctest bubble, while everything that can
// go wrong does, from a seed.
//
// A seed makes a [Script]: changes of the sources, deaths and starts, late
// views, lost sources, lost answers, consumers that are reset, half
// transactions, streams made again. The log adds faults of its own. After every
// step an auditor, which has a perfect view of the log, checks:
//
//   - each transaction has its marks, its number of keys and its state hash;
//   - terms only rise, and nobody writes in a term that has passed;
//   - what is written to a catalog was true of its source, in the source's
//     order, and is never what stands there already (a keyframe repeats it, and
//     names its origin);
//   - the recorded basis of a stream goes back in no component, and the routes are
//     what resolving the catalogs at that basis from nothing gives;
//   - every reader holds, after each transaction that it was given, exactly the
//     log's state there.
//
// When all is healed and quiet, catalogs equal their sources, both resolvers
// agree with each other and with the log, readers hold the log's state, and
// replaying the log finds no difference.
//
// A failing seed prints its script, made as short as it can be; the flag
// -sim.script runs one from a file.
package sim
