package bus

import "errors"

// Errors of a [Log].
var (
	// ErrNoStream: the stream does not exist.
	ErrNoStream = errors.New("no such stream")
	// ErrWrongSequence: the stream's last sequence is not the expected one;
	// nothing was stored by this call. An earlier call with a lost answer may be
	// the reason.
	ErrWrongSequence = errors.New("the stream's last sequence is not the expected one")
	// ErrUnanswered: no answer came in time; the messages may be stored or not.
	// Only reading the tail tells.
	ErrUnanswered = errors.New("no answer came in time")
	// ErrDisconnected: there is no connection to NATS right now, so nothing was
	// sent. It comes wrapped beside [ErrUnanswered].
	ErrDisconnected = errors.New("there is no connection to NATS")
	// ErrTooLarge: a message is over the server's payload limit, its key does not
	// fit a subject, or a batch has over [MaxBatch] messages.
	ErrTooLarge = errors.New("too large for the log")
	// ErrNotRetained: the messages that would be needed have left the log.
	ErrNotRetained = errors.New("no longer retained by the log")
	// ErrNotYet: the log has not come to that sequence.
	ErrNotYet = errors.New("the log has not come that far")
)

// Errors that end the following of a stream: the reader starts over.
var (
	// ErrReset: the consumer was lost before its bootstrap had begun, so the
	// bootstrap has to be made again.
	ErrReset = errors.New("the consumer was reset before its first message")
	// ErrReplaced: the stream was deleted and made again, or went back behind
	// what was read of it.
	ErrReplaced = errors.New("the stream is not the one that was followed")
	// ErrGap: sequences are missing while following; what was evicted unseen may
	// have been tombstones.
	ErrGap = errors.New("sequences are missing")
	// ErrIncarnation: a message is of another incarnation than its stream; a
	// mirror whose origin was made again holds both, and must be made again too.
	ErrIncarnation = errors.New("a message of another incarnation")
	// ErrMirrorHoles: a mirror has deleted sequences inside, so what it holds is
	// not the origin's state.
	ErrMirrorHoles = errors.New("the mirror has deleted sequences inside")
	// ErrStateHash: the state read does not have the hash that its writer
	// recorded.
	ErrStateHash = errors.New("the state does not have the recorded hash")
	// ErrMalformed: a message cannot be read as what its subject says.
	ErrMalformed = errors.New("malformed message")
)

// Errors of a [Writer].
var (
	// ErrNotActive: another writer holds the stream, or this one has not caught
	// up with it yet.
	ErrNotActive = errors.New("not the active writer of the stream")
	// ErrStaleView: what is to be written comes from an older view than what is
	// recorded. A watcher takes [Writer.Tail], reads its source consistently and
	// writes that; a resolver waits for its catalogs.
	ErrStaleView = errors.New("the view is older than the recorded one")
	// ErrOldRules: what is recorded was computed by newer rules than this
	// process has.
	ErrOldRules = errors.New("the rules are older than the recorded ones")
	// ErrMirror: the stream is a mirror in this log; its writer belongs to the
	// origin's domain.
	ErrMirror = errors.New("the stream is a mirror here and is written elsewhere")
	// ErrFull: the stream's live keys have passed a quarter of its message limit
	// and the limit could not be raised: new keys are refused.
	ErrFull = errors.New("the stream has no room for new keys")
)
