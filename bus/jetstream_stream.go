package bus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	isthmusv1 "github.com/isthmus-mesh/isthmus/proto/isthmus/v1"
)

// incarnationKey is where a stream's metadata holds its incarnation.
const incarnationKey = "isthmus-incarnation"

// Create implements [Log].
func (j *JetStream) Create(ctx context.Context, config StreamConfig) (StreamState, error) {
	if err := config.Validate(); err != nil {
		return StreamState{}, err
	}
	config.MaxMessages = cmp.Or(config.MaxMessages, DefaultMaxMessages)
	config.Replicas = cmp.Or(config.Replicas, 1)
	if config.Mirror != nil {
		return j.createMirror(ctx, config)
	}
	info, err := j.info(ctx, config.Name)
	if errors.Is(err, ErrNoStream) {
		info, err = j.createOrigin(ctx, config)
	}
	if err != nil {
		return StreamState{}, err
	}
	return j.raise(ctx, info, config)
}

// base is what every stream of ours has.
func base(config StreamConfig, incarnation string) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        config.Name,
		Retention:   jetstream.LimitsPolicy,
		Discard:     jetstream.DiscardOld,
		MaxMsgs:     config.MaxMessages,
		MaxAge:      config.MaxAge,
		Storage:     jetstream.FileStorage,
		Replicas:    config.Replicas,
		AllowDirect: true,
		Metadata:    map[string]string{incarnationKey: incarnation},
	}
}

func (j *JetStream) createOrigin(ctx context.Context, config StreamConfig) (*jetstream.StreamInfo, error) {
	subjects, err := streamSubjects(config.Name)
	if err != nil {
		return nil, err
	}
	sc := base(config, randomID())
	sc.Subjects = []string{subjects}
	sc.DenyDelete, sc.DenyPurge = true, true
	class, _, _ := isthmusv1.ParseStreamName(config.Name)
	sc.AllowAtomicPublish = class != isthmusv1.ClassStatus
	return j.create(ctx, sc)
}

// create makes a stream, or takes the one that somebody made first.
func (j *JetStream) create(ctx context.Context, sc jetstream.StreamConfig) (*jetstream.StreamInfo, error) {
	asking, cancel := j.request(ctx, 4*j.timeout)
	defer cancel()
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		s, err := j.js.CreateStream(asking, sc)
		if err == nil {
			return s.CachedInfo(), nil
		}
		api := apiError(err)
		if api != nil && api.ErrorCode == codeStreamNameInUse {
			return j.info(ctx, sc.Name)
		}
		// A server that is still removing the files of the stream which had
		// this name answers so, and so does one whose disk is full: again, for
		// as long as a request may take, then its error is the answer.
		if api == nil || api.ErrorCode != codeStoreNotMade || !pause(asking, wait) {
			return nil, named(ctx, sc.Name, err)
		}
	}
}

// pause waits, and reports false when the context ended meanwhile.
func pause(ctx context.Context, wait time.Duration) bool {
	select {
	case <-time.After(wait):
		return true
	case <-ctx.Done():
		return false
	}
}

// raise raises the message limit where it is lower.
func (j *JetStream) raise(ctx context.Context, info *jetstream.StreamInfo, config StreamConfig) (StreamState, error) {
	if info.Config.MaxMsgs > 0 && info.Config.MaxMsgs < config.MaxMessages {
		sc := info.Config
		sc.MaxMsgs = config.MaxMessages
		asking, cancel := j.request(ctx, 0)
		defer cancel()
		s, err := j.js.UpdateStream(asking, sc)
		if err != nil {
			return StreamState{}, named(ctx, config.Name, err)
		}
		info = s.CachedInfo()
	}
	return stateOf(info), nil
}

func (j *JetStream) info(ctx context.Context, stream string) (*jetstream.StreamInfo, error) {
	info := new(jetstream.StreamInfo)
	if err := j.api(ctx, "STREAM.INFO."+stream, struct{}{}, info); err != nil {
		return nil, fmt.Errorf("%s: %w", stream, err)
	}
	return info, nil
}

func stateOf(info *jetstream.StreamInfo) StreamState {
	s := StreamState{
		Stream:      info.Config.Name,
		Incarnation: info.Config.Metadata[incarnationKey],
		First:       info.State.FirstSeq,
		Last:        info.State.LastSeq,
		Messages:    info.State.Msgs,
		Deleted:     uint64(info.State.NumDeleted),
		MaxMessages: info.Config.MaxMsgs,
	}
	if m := info.Config.Mirror; m != nil {
		s.Mirror = &MirrorState{Domain: domainOf(m), Active: -1}
		if info.Mirror != nil {
			s.Mirror.Active, s.Mirror.Lag = info.Mirror.Active, info.Mirror.Lag
		}
	}
	return s
}

// State implements [Log].
func (j *JetStream) State(ctx context.Context, stream string) (StreamState, error) {
	info, err := j.info(ctx, stream)
	if err != nil {
		return StreamState{}, err
	}
	return stateOf(info), nil
}

// Streams implements [Log].
func (j *JetStream) Streams(ctx context.Context) ([]string, error) {
	asking, cancel := j.request(ctx, 0)
	defer cancel()
	lister := j.js.StreamNames(asking)
	var names []string
	for name := range lister.Name() {
		if _, _, ok := isthmusv1.ParseStreamName(name); ok {
			names = append(names, name)
		}
	}
	if err := lister.Err(); err != nil {
		return nil, named(ctx, "list of streams", err)
	}
	slices.Sort(names)
	return names, nil
}

// Delete removes a stream with all that it holds: for an operator and for
// tests, never for a role. Possible error: [ErrNoStream].
func (j *JetStream) Delete(ctx context.Context, stream string) error {
	asking, cancel := j.request(ctx, 0)
	defer cancel()
	return named(ctx, stream, j.js.DeleteStream(asking, stream))
}

// createMirror makes a copy of the stream of the same name in another domain,
// fed by a durable consumer there: it heals in seconds where an ephemeral one
// takes half a minute.
func (j *JetStream) createMirror(ctx context.Context, config StreamConfig) (StreamState, error) {
	mine, err := j.info(ctx, config.Name)
	if err != nil && !errors.Is(err, ErrNoStream) {
		return StreamState{}, err
	}
	origin, far, err := j.origin(ctx, config)
	switch {
	case err != nil && mine != nil && transient(err):
		return j.raise(ctx, mine, config) // Out of reach; the mirror is fed when it is back.
	case err != nil:
		return StreamState{}, err
	}
	config.MaxMessages = max(config.MaxMessages, origin.Config.MaxMsgs)
	incarnation := origin.Config.Metadata[incarnationKey]
	if mine != nil && mine.Config.Metadata[incarnationKey] != incarnation {
		j.log.Warn("the mirror's origin was made again, and so is the mirror", "stream", config.Name, "domain", config.Mirror.Domain)
		if err := j.Delete(ctx, config.Name); err != nil && !errors.Is(err, ErrNoStream) {
			return StreamState{}, err
		}
		mine = nil
	}
	consumer := "MIRROR_" + cmp.Or(config.Mirror.Consumer, j.domain, "default")
	if err := far.feed(ctx, config.Name, consumer, mine == nil); err != nil {
		return StreamState{}, err
	}
	if mine == nil {
		sc := base(config, incarnation)
		sc.Mirror = &jetstream.StreamSource{
			Name: config.Name, Domain: config.Mirror.Domain,
			Consumer: &jetstream.StreamConsumerSource{Name: consumer, DeliverSubject: feedSubject(config.Name, consumer)},
		}
		if mine, err = j.create(ctx, sc); err != nil {
			return StreamState{}, err
		}
	}
	return j.raise(ctx, mine, config)
}

// origin asks the origin's domain for the stream.
func (j *JetStream) origin(ctx context.Context, config StreamConfig) (*jetstream.StreamInfo, *JetStream, error) {
	far, err := j.InDomain(config.Mirror.Domain)
	if err != nil {
		return nil, nil, err
	}
	info, err := far.info(ctx, config.Name)
	if err != nil {
		return nil, nil, fmt.Errorf("origin in domain %s: %w", config.Mirror.Domain, err)
	}
	return info, far, nil
}

func feedSubject(stream, consumer string) string { return "isthmus-feed." + stream + "." + consumer }

// feed makes the durable consumer that feeds a mirror; anew for a new mirror,
// which needs everything from the first message.
func (j *JetStream) feed(ctx context.Context, stream, consumer string, anew bool) error {
	asking, cancel := j.request(ctx, j.timeout)
	defer cancel()
	if anew {
		err := j.js.DeleteConsumer(asking, stream, consumer)
		if err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
			return named(ctx, stream, err)
		}
	}
	_, err := j.js.CreateOrUpdatePushConsumer(asking, stream, jetstream.ConsumerConfig{
		Durable:        consumer,
		DeliverSubject: feedSubject(stream, consumer),
		DeliverPolicy:  jetstream.DeliverAllPolicy,
		AckPolicy:      jetstream.AckFlowControlPolicy,
		FlowControl:    true,
		IdleHeartbeat:  time.Second,
		MaxDeliver:     -1,
		MaxAckPending:  10_000,
	})
	return named(ctx, stream, err)
}

// domainOf is the domain that a mirror's API prefix names.
func domainOf(m *jetstream.StreamSource) string {
	if m.Domain != "" || m.External == nil {
		return m.Domain
	}
	var domain string
	if _, err := fmt.Sscanf(m.External.APIPrefix, "$JS.%s", &domain); err != nil {
		return m.External.APIPrefix
	}
	if n := len(domain) - len(".API"); n > 0 && domain[n:] == ".API" {
		return domain[:n]
	}
	return domain
}

// Mirrors makes a mirror of every stream of the class in the other domains, and
// makes those again whose origin was. Call it again to take in what is new. It
// returns all problems, having done what could be done.
func (j *JetStream) Mirrors(ctx context.Context, class isthmusv1.Class, domains []string, config StreamConfig) error {
	var problems []error
	for _, domain := range slices.Sorted(maps.Keys(setOf(domains))) {
		if domain == j.domain {
			continue
		}
		far, err := j.InDomain(domain)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		names, err := far.Streams(ctx)
		problems = append(problems, err)
		for _, name := range names {
			if c, dc, _ := isthmusv1.ParseStreamName(name); c != class || isthmusv1.StreamName(class, domain) != isthmusv1.StreamName(class, dc) {
				continue // A mirror there, not an origin.
			}
			config := config
			config.Name, config.Mirror = name, &Mirror{Domain: domain, Consumer: j.domain}
			_, err := j.Create(ctx, config)
			problems = append(problems, err)
		}
	}
	return errors.Join(problems...)
}

func setOf(names []string) map[string]bool {
	set := make(map[string]bool, len(names))
	for _, name := range names {
		set[name] = true
	}
	return set
}
