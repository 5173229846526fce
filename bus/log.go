package bus

import (
	"context"
	"iter"
	"time"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// MaxBatch is the number of messages that one [Log.Append] may store: the
// server's limit of an atomic batch.
const MaxBatch = 1000

// Log is a set of streams. All methods may be called from several goroutines.
//
// Errors that only mean "not now" (no connection, no leader, a replica that lags)
// are waited out by Follow and History, and in parts by Latest, until the context
// ends; the others return them as [ErrUnanswered], wrapped with the stream's name.
type Log interface {
	// Create makes the stream unless it is there, and returns its state. On a
	// stream that is there it only raises the message limit. A new stream gets a
	// new incarnation. A mirror of another incarnation than its origin's is made
	// again.
	Create(ctx context.Context, config StreamConfig) (StreamState, error)

	// State asks the stream's leader. Possible error: [ErrNoStream].
	State(ctx context.Context, stream string) (StreamState, error)

	// Streams returns the names of all streams of the log whose names
	// [isthmusv1.ParseStreamName] understands, sorted.
	Streams(ctx context.Context) ([]string, error)

	// Append stores all messages with contiguous sequences after expectedLast,
	// or none, and returns the last one's sequence. Only Key and Record are read.
	// Possible errors: [ErrWrongSequence], [ErrUnanswered], [ErrTooLarge],
	// [ErrNoStream].
	Append(ctx context.Context, stream string, expectedLast uint64, messages []Message) (last uint64, err error)

	// Publish stores one message wherever the stream's end is: status only.
	// Possible errors: as of Append, without ErrWrongSequence.
	Publish(ctx context.Context, stream string, message Message) error

	// Follow hands over the last message of each key, then every message that is
	// stored, and blocks until the context or the following ends. handle is called
	// from one goroutine at a time, first with the state that was asked of the
	// leader after the consumer was made: messages up to its Last are the
	// bootstrap. Sequences rise strictly between two starts, but for what a faulty
	// network repeats: a reader ignores sequences that it has. Consumers that are
	// lost on the way are replaced; in the bootstrap this can show messages that
	// are already superseded.
	//
	// It returns the context's cause, what handle returned, or [ErrNoStream],
	// [ErrReset], [ErrReplaced], [ErrGap].
	Follow(ctx context.Context, stream string, handle func(Delivery) error) error

	// History yields the messages from one sequence to another, both included.
	// From 0 is the first retained; to 0, or beyond the end, is the last one at
	// the time of the call. It ends with an error or when to was yielded.
	// Possible errors: [ErrNoStream], [ErrNotRetained], [ErrGap].
	History(ctx context.Context, stream string, from, to uint64) iter.Seq2[Message, error]

	// Latest returns each key's last message at or below the sequence upTo,
	// tombstones too, in the order of their sequences; keys without any are left
	// out. UpTo 0 means the head. Possible errors: [ErrNoStream].
	Latest(ctx context.Context, stream string, keys []isthmusv1.Key, upTo uint64) ([]Message, error)

	// Beat sends a heartbeat to whoever listens now; it is not stored.
	Beat(ctx context.Context, stream string, beat Heartbeat) error

	// Heartbeats hands over the stream's heartbeats, one at a time, until the
	// context ends; those sent while nobody listened are lost.
	Heartbeats(ctx context.Context, stream string, handle func(Heartbeat)) error
}

// StreamConfig says how a stream is to be made.
type StreamConfig struct {
	// Name is as of [isthmusv1.StreamName].
	Name string
	// MaxMessages is W: the oldest messages beyond it leave. It is only ever
	// raised. 0: [DefaultMaxMessages]. A mirror's is at least its origin's.
	MaxMessages int64
	// Replicas is the number of servers that hold the stream. 0: 1.
	Replicas int
	// MaxAge lets messages age out; 0: never. Status only: an age limit empties a
	// quiet catalog, so Create refuses it for any other class.
	MaxAge time.Duration
	// Mirror makes the stream a copy of the stream of the same name elsewhere.
	Mirror *Mirror
}

// Mirror says where the original of a mirror is.
type Mirror struct {
	// Domain is the JetStream domain of the origin.
	Domain string
	// Consumer distinguishes this mirror among all mirrors of the origin; usually
	// the name of the own domain.
	Consumer string
}

// DefaultMaxMessages is W where nothing else is said: room for a hundred
// thousand live keys.
const DefaultMaxMessages = 1 << 20

// StreamState is what a stream's leader says of it.
type StreamState struct {
	Stream string
	// Incarnation is the random id given at creation. A mirror has its origin's.
	// Empty for a stream that was not made by us; then the messages tell.
	Incarnation string
	// First and Last are sequences; Last is 0 in a stream that never held any.
	First, Last uint64
	// Messages held now, and sequences between First and Last without one.
	Messages, Deleted uint64
	// MaxMessages is W.
	MaxMessages int64
	// Mirror is nil for an origin.
	Mirror *MirrorState
}

// MirrorState is how a mirror stands to its origin.
type MirrorState struct {
	Domain string
	// Active is the time since the origin was last heard of; negative: never.
	Active time.Duration
	// Lag is the number of messages known to be missing. It stays 0 while the
	// link is down, so it is no sign of life.
	Lag uint64
}

// Message is one message of a stream.
type Message struct {
	Key isthmusv1.Key
	// Record is a marshalled [isthmusv1.Record].
	Record []byte
	// Sequence and Time are given by the log; the time is for people.
	Sequence uint64
	Time     time.Time
}

// Delivery is one thing that [Log.Follow] hands over: the start of a
// bootstrap, or a message.
type Delivery struct {
	// Start is set in the first delivery, and nil in all others.
	Start   *StreamState
	Message Message
}

// Heartbeat is what the active writer of a stream says between writes.
type Heartbeat struct {
	Term  uint64 `json:"term"`
	Owner string `json:"owner"`
	// SourceLost: the writer no longer sees its source; whoever does may take
	// over.
	SourceLost bool `json:"source_lost,omitempty"`
}
