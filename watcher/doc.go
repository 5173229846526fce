// Package watcher turns what a source holds into the catalog's log: a source's
// scopes become differences, and differences become transactions on
// CATALOG_<dc>.
//
// # What it promises
//
// Nothing twice. What is written is the difference between the source and the
// log, so equal bytes publish nothing, a restarted watcher publishes nothing
// when nothing has changed, and two watchers with views of different age
// publish each change once.
//
// Nothing half. What a source changed together is one transaction, and the
// first fill of a stream is marked complete only with its last message.
//
// Nothing older over newer. A value seen at a source index is written only
// when that index is above the recorded one of the same query. Otherwise, and
// always for a source without indexes, the log's end is read first, then the
// source, and what was read is written onto that very end.
//
// Last good stays. A source that is away or unusable deletes nothing.
//
// # Who does what
//
// A [Source] hands over whole states, one per scope, and decides nothing. The
// [Watcher] compares; [bus.Writer] fences, takes turns with other watchers and
// keeps. Package watcher/file is a directory as a source.
//
// # What it does not do
//
// It knows nothing of what values mean: no rule of resolution is applied here.
package watcher
