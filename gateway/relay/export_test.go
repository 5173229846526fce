package relay

// WasReset reports whether an end that was read is a reset.
var WasReset = wasReset
