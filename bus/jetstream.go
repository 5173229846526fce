package bus

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Options say how to reach NATS. The zero value is a plain connection to a
// server without domains.
type Options struct {
	// Name is what the server shows for this connection: the role and its node.
	Name string
	// Domain is the own datacenter's JetStream domain. Empty: the server's.
	Domain string
	// CredentialsFile holds a user's JWT and seed; NkeySeedFile a bare seed.
	// At most one of them.
	CredentialsFile, NkeySeedFile string
	// TLS is used when not nil; a URL of scheme tls needs none.
	TLS *tls.Config
	// InboxPrefix keeps the replies of roles apart, like _INBOX_watcher. Empty:
	// the client's default.
	InboxPrefix string
	// Timeout is how long an answer is waited for; longer where there is more to
	// do. 0: 1 s.
	Timeout time.Duration
	// Logger is told when the connection comes and goes. May be nil.
	Logger *slog.Logger
}

// JetStream is a [Log] on NATS JetStream. It reconnects for ever.
type JetStream struct {
	nc      *nats.Conn
	js      jetstream.JetStream
	domain  string
	prefix  string // of the API's subjects, with the last dot
	timeout time.Duration
	log     *slog.Logger
	owned   bool
	closed  chan struct{} // if owned: closed when the connection has told all
	lost    *losses
}

// losses are what is to be called when the connection is lost or is back: a
// request whose answer cannot come any more is given up, and whoever reads takes
// a new consumer, without waiting for what would tell it later.
type losses struct {
	mu    sync.Mutex
	next  int
	calls map[int]func()
}

// add registers a call, and returns how to take it back.
func (l *losses) add(call func()) (remove func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.calls == nil {
		l.calls = make(map[int]func())
	}
	l.next++
	id := l.next
	l.calls[id] = call
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.calls, id)
	}
}

func (l *losses) tell() {
	l.mu.Lock()
	calls := slices.Collect(maps.Values(l.calls))
	l.mu.Unlock()
	for _, call := range calls {
		call()
	}
}

var _ Log = (*JetStream)(nil)

// Connect returns a log on the servers of a URL (or several, with commas). It
// does not wait for a connection: a server that is not there yet is tried until
// it is.
func Connect(url string, options Options) (*JetStream, error) {
	log := options.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	lost, closed := new(losses), make(chan struct{})
	away := new(atomic.Bool) // It was said that no server can be reached.
	opts := []nats.Option{
		nats.Name(options.Name),
		nats.MaxReconnects(-1),
		nats.RetryOnFailedConnect(true),
		nats.ReconnectWait(100 * time.Millisecond),
		nats.ReconnectJitter(100*time.Millisecond, 100*time.Millisecond),
		// Nothing is sent late: what cannot be sent now fails now.
		nats.ReconnectBufSize(-1),
		// A link that swallows everything is noticed within 15 s.
		nats.PingInterval(5 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.DisconnectErrHandler(disconnected(log, lost)),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) {
			if away.CompareAndSwap(false, true) {
				log.Warn("NATS cannot be reached; it is tried until it can", "servers", redacted(url), "err", err)
			}
		}),
		nats.ConnectHandler(func(*nats.Conn) { away.Store(false) }),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			away.Store(false)
			log.Info("connected to NATS again", "server", nc.ConnectedUrlRedacted())
			lost.tell()
		}),
		nats.ClosedHandler(func(*nats.Conn) { close(closed) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { log.Warn("NATS reports an error", "err", err) }),
	}
	if options.CredentialsFile != "" {
		opts = append(opts, nats.UserCredentials(options.CredentialsFile))
	}
	if options.NkeySeedFile != "" {
		nkey, err := nats.NkeyOptionFromSeed(options.NkeySeedFile)
		if err != nil {
			return nil, fmt.Errorf("nkey seed %s: %w", options.NkeySeedFile, err)
		}
		opts = append(opts, nkey)
	}
	if options.TLS != nil {
		opts = append(opts, nats.Secure(options.TLS))
	}
	if options.InboxPrefix != "" {
		opts = append(opts, nats.CustomInboxPrefix(options.InboxPrefix))
	}
	nc, err := nats.Connect(url, opts...)
	if err != nil {
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	j, err := NewJetStream(nc, options)
	if err != nil {
		nc.Close()
		return nil, err
	}
	j.owned, j.closed, j.lost = true, closed, lost
	return j, nil
}

// NewJetStream returns a log on a connection that the caller keeps. Of the
// options it reads Domain, Timeout and Logger.
func NewJetStream(nc *nats.Conn, options Options) (*JetStream, error) {
	j := &JetStream{nc: nc, domain: options.Domain, prefix: apiPrefix(options.Domain), timeout: options.Timeout, log: options.Logger, lost: new(losses)}
	if j.timeout == 0 {
		j.timeout = time.Second
	}
	if j.log == nil {
		j.log = slog.New(slog.DiscardHandler)
	}
	var err error
	if j.js, err = inDomain(nc, options.Domain); err != nil {
		return nil, fmt.Errorf("JetStream of domain %q: %w", options.Domain, err)
	}
	return j, nil
}

func inDomain(nc *nats.Conn, domain string) (jetstream.JetStream, error) {
	if domain == "" {
		return jetstream.New(nc)
	}
	return jetstream.NewWithDomain(nc, domain)
}

func apiPrefix(domain string) string {
	if domain == "" {
		return "$JS.API."
	}
	return "$JS." + domain + ".API."
}

// InDomain returns the log of another datacenter's domain on the same
// connection.
func (j *JetStream) InDomain(domain string) (*JetStream, error) {
	far, err := NewJetStream(j.nc, Options{Domain: domain, Timeout: j.timeout, Logger: j.log})
	if err != nil {
		return nil, err
	}
	far.lost = j.lost
	return far, nil
}

// Close ends the connection if Connect made it. Nothing is logged of it later.
func (j *JetStream) Close() {
	if j.owned {
		j.nc.Close()
		<-j.closed
	}
}

// disconnected tells whoever waits on the connection. It warns of a connection
// that was lost; one without an error was closed on purpose, which is no news.
func disconnected(log *slog.Logger, lost *losses) nats.ConnErrHandler {
	return func(_ *nats.Conn, err error) {
		if err != nil {
			log.Warn("disconnected from NATS", "err", err)
		}
		lost.tell()
	}
}

// redacted is a list of server URLs without what stands before an @ in them.
func redacted(urls string) string {
	servers := strings.Split(urls, ",")
	for i, server := range servers {
		servers[i] = strings.TrimSpace(server)
		if scheme, rest, ok := strings.Cut(servers[i], "://"); ok {
			servers[i] = scheme + "://" + rest[strings.LastIndex(rest, "@")+1:]
		}
	}
	return strings.Join(servers, ",")
}

// Connected reports whether there is a connection right now.
func (j *JetStream) Connected() bool { return j.nc.IsConnected() }

// Codes of the server's errors, as in nats-server's errors.json.
const (
	codeStreamNotFound     = 10059
	codeStreamNameInUse    = 10058
	codeWrongLast          = 10071
	codeWrongLastInProcess = 10164
	codeMessageTooLarge    = 10054
	codeBatchIncomplete    = 10176
	codeMessageNotFound    = 10037
	codeStoreNotMade       = 10049
	statusUnavailable      = 503
	statusTooMany          = 429
)

// named maps what NATS says to the errors of a [Log]. What only means "not now"
// becomes [ErrUnanswered].
func named(ctx context.Context, what string, err error) error {
	if err == nil {
		return nil
	}
	api := apiError(err)
	switch {
	case api == nil && errors.Is(err, nats.ErrMaxPayload):
		return fmt.Errorf("%s: %w: %w", what, ErrTooLarge, err)
	case api == nil && errors.Is(err, nats.ErrReconnectBufExceeded): // Nothing is buffered.
		return fmt.Errorf("%s: %w: %w", what, ErrUnanswered, ErrDisconnected)
	case api == nil && ctx.Err() != nil:
		return fmt.Errorf("%s: %w: %w", what, ErrUnanswered, context.Cause(ctx))
	case api == nil:
		return fmt.Errorf("%s: %w: %w", what, ErrUnanswered, err)
	case api.ErrorCode == codeStreamNotFound:
		return fmt.Errorf("%s: %w", what, ErrNoStream)
	case api.ErrorCode == codeWrongLast, api.ErrorCode == codeWrongLastInProcess:
		return fmt.Errorf("%s: %w", what, ErrWrongSequence)
	case api.ErrorCode == codeMessageTooLarge:
		return fmt.Errorf("%s: %w: %w", what, ErrTooLarge, err)
	case api.ErrorCode == codeMessageNotFound:
		return fmt.Errorf("%s: %w", what, ErrNotRetained)
	case api.Code == statusUnavailable, api.Code == statusTooMany, api.ErrorCode == codeBatchIncomplete:
		return fmt.Errorf("%s: %w: %w", what, ErrUnanswered, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

func apiError(err error) *jetstream.APIError {
	if js, ok := errors.AsType[jetstream.JetStreamError](err); ok {
		return js.APIError()
	}
	if api, ok := errors.AsType[*jetstream.APIError](err); ok {
		return api
	}
	return nil
}

// severity is at what level a failure is logged that is tried again. That there is
// no connection has been said by the connection itself.
func severity(err error) slog.Level {
	if errors.Is(err, ErrDisconnected) {
		return slog.LevelDebug
	}
	return slog.LevelWarn
}

// transient reports whether waiting may help.
func transient(err error) bool { return errors.Is(err, ErrUnanswered) }

// request limits one request in time, and ends it when the connection is lost.
func (j *JetStream) request(ctx context.Context, longer time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, j.timeout+longer)
	forget := j.lost.add(cancel)
	return ctx, func() {
		forget()
		cancel()
	}
}

// api asks the server's JetStream API, which the stream's leader answers.
func (j *JetStream) api(ctx context.Context, subject string, request, response any) error {
	data, err := json.Marshal(request)
	if err != nil {
		return err
	}
	asking, cancel := j.request(ctx, 0)
	defer cancel()
	m, err := j.nc.RequestWithContext(asking, j.prefix+subject, data)
	if err != nil {
		return named(ctx, subject, err)
	}
	var failed struct {
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(m.Data, &failed); err != nil {
		return fmt.Errorf("%s: %w: %w", subject, ErrMalformed, err)
	}
	if failed.Error != nil {
		return named(ctx, subject, failed.Error)
	}
	return json.Unmarshal(m.Data, response)
}

// patiently repeats what only failed because of "not now".
func patiently(ctx context.Context, do func() error) error {
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		err := do()
		if err == nil || !transient(err) {
			return err
		}
		if !pause(ctx, wait) {
			return context.Cause(ctx)
		}
	}
}
