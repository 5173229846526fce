package enginetest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// outcome is how a conversation ends.
type outcome int

const (
	// clientEndsFirst, endpointEndsFirst: the other ends when it has heard that;
	// bothEnd: neither waits for the other.
	clientEndsFirst outcome = iota
	endpointEndsFirst
	bothEnd
	// clientBreaks, endpointBreaks: that side breaks off.
	clientBreaks
	endpointBreaks
)

// roles of a conversation.
const (
	asClient = iota
	asEndpoint
)

// turn is one side's turn in a conversation: it waits until it has heard a number of
// bytes from the beginning on, and then says some.
type turn struct{ role, hears, says int }

// conversation is what two ends say to one another, drawn from a seed. Turns are in
// an order in which nobody waits for something that is said later.
type conversation struct {
	seed    uint64
	outcome outcome
	turns   []turn
	// said is how much each says.
	said [2]int
	// waits: who breaks off has first heard all that the other says.
	waits bool
	// endedBefore: the other has ended when one breaks off.
	endedBefore bool
}

func newConversation(seed uint64, how outcome) *conversation {
	random := rand.New(rand.NewPCG(seed, uint64(how)))
	c := &conversation{seed: seed, outcome: how, waits: random.IntN(2) == 0, endedBefore: random.IntN(2) == 0}
	for range random.IntN(30) {
		t := turn{role: random.IntN(2), says: drawSize(random)}
		if random.IntN(3) > 0 {
			t.hears = c.said[1-t.role]
		}
		c.said[t.role] += t.says
		c.turns = append(c.turns, t)
	}
	return c
}

// drawSize draws how much is said: a few bytes most often, sometimes much.
func drawSize(random *rand.Rand) int {
	switch random.IntN(10) {
	case 0:
		return random.IntN(1 << 20)
	case 1, 2:
		return random.IntN(100_000)
	case 3, 4, 5:
		return random.IntN(5000)
	}
	return 1 + random.IntN(20)
}

// breaker is the role that breaks off, if one does.
func (c *conversation) breaker() (int, bool) {
	return map[outcome]int{clientBreaks: asClient, endpointBreaks: asEndpoint}[c.outcome], c.outcome >= clientBreaks
}

// speaker is one end of a conversation.
type speaker struct {
	*conversation
	role int
	conn *net.TCPConn

	mu    sync.Mutex
	heard int
	ended bool
	more  *sync.Cond
	err   error
}

// speak has a conversation to its end on one side, closes the connection, and says
// what was otherwise than it should.
func (c *conversation) speak(conn *net.TCPConn, role int) (heard int, err error) {
	s := &speaker{conversation: c, role: role, conn: conn}
	s.more = sync.NewCond(&s.mu)
	var listening sync.WaitGroup
	listening.Go(s.listen)
	spoke := s.sayAll()
	if spoke == nil {
		spoke = s.end()
	}
	if spoke != nil && !isReset(spoke) {
		_ = conn.Close()
	}
	listening.Wait()
	_ = conn.Close()
	return s.heard, s.judge(spoke)
}

// listen reads to the end.
func (s *speaker) listen() {
	p, buffer := newPattern(2*s.seed+uint64(1-s.role)), make([]byte, 32<<10)
	for {
		n, err := s.conn.Read(buffer)
		if other := p.check(buffer[:n]); other != nil {
			err = other
		}
		s.mu.Lock()
		s.heard += n
		if err != nil {
			s.ended, s.err = true, err
		}
		s.mu.Unlock()
		s.more.Broadcast()
		if err != nil {
			return
		}
	}
}

// wait waits until so much was heard, or the end.
func (s *speaker) wait(heard int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.heard < heard && !s.ended {
		s.more.Wait()
	}
}

// toTheEnd is more than is ever said.
const toTheEnd = 1 << 62

func (s *speaker) sayAll() error {
	p := newPattern(2*s.seed + uint64(s.role))
	for _, t := range s.turns {
		if t.role != s.role {
			continue
		}
		s.wait(t.hears)
		if err := p.sendTo(s.conn, t.says); err != nil {
			return err
		}
	}
	return nil
}

// end ends this side as the outcome says.
func (s *speaker) end() error {
	breaker, breaks := s.breaker()
	switch {
	case breaks && breaker == s.role:
		if s.waits {
			s.wait(s.said[1-s.role])
		}
		if s.endedBefore {
			s.wait(toTheEnd)
		}
		return errors.Join(s.conn.SetLinger(0), s.conn.Close())
	case breaks && !s.endedBefore:
		return nil
	case s.outcome == clientEndsFirst && s.role == asEndpoint, s.outcome == endpointEndsFirst && s.role == asClient:
		s.wait(toTheEnd)
	}
	return s.conn.CloseWrite()
}

// judge says what was otherwise than it should.
func (s *speaker) judge(spoke error) error {
	heard, want := s.heard, s.said[1-s.role]
	breaker, breaks := s.breaker()
	switch {
	case errors.Is(s.err, errOther):
		return fmt.Errorf("after %d bytes: %w", heard, s.err)
	case heard > want:
		return fmt.Errorf("%d bytes of %d were heard", heard, want)
	case breaks && breaker == s.role:
		if s.waits && heard < want {
			return fmt.Errorf("%d bytes of %d were heard (%s) before it broke off", heard, want, inWords(s.err))
		}
		return spoke
	case breaks:
		if !isReset(spoke) && !isReset(s.err) {
			return fmt.Errorf("the other broke off; reading: %s; writing: %s", inWords(s.err), inWords(spoke))
		}
		return nil
	case spoke != nil:
		return fmt.Errorf("%d bytes of %d were heard; reading: %s; writing: %s", heard, want, inWords(s.err), inWords(spoke))
	case !errors.Is(s.err, io.EOF) || heard < want:
		return fmt.Errorf("%d bytes of %d were heard, and then: %s", heard, want, inWords(s.err))
	}
	return nil
}

func inWords(err error) string {
	if err == nil {
		return "all went well"
	}
	return err.Error()
}

// talker is an endpoint that has the conversations that its clients ask for.
type talker struct {
	*server
	mu sync.Mutex
	// ended gets what each endpoint has to say of its conversation.
	ended map[seeded]chan error
}

// seeded names a conversation.
type seeded struct {
	seed    uint64
	outcome outcome
	// settled: the client waits for a sign of the endpoint's first.
	settled bool
}

// sign is what the endpoint says when it is to have a settled conversation.
var sign = []byte("!")

func newTalker(t testing.TB) *talker {
	k := &talker{ended: make(map[seeded]chan error)}
	k.server = serve(t, k.talk)
	return k
}

func (k *talker) of(which seeded) chan error {
	k.mu.Lock()
	defer k.mu.Unlock()
	c, ok := k.ended[which]
	if !ok {
		c = make(chan error, 1)
		k.ended[which] = c
	}
	return c
}

// errNever indicates a conversation that its endpoint never had.
var errNever = errors.New("it never had the conversation")

// await is what the endpoint has to say of a conversation.
func (k *talker) await(which seeded) error {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case err := <-k.of(which):
		return err
	case <-timer.C:
		return errNever
	}
}

// asked is the length of what a client says behind its hello: seed, outcome, and
// whether it waits for a sign.
const asked = 17

// talk reads which conversation it is to be, and has it.
func (k *talker) talk(conn *net.TCPConn) {
	_ = conn.SetDeadline(time.Now().Add(patience))
	defer func() { _ = conn.Close() }()
	if _, err := readHello(conn); err != nil {
		return
	}
	b := make([]byte, asked)
	if _, err := io.ReadFull(conn, b); err != nil {
		return
	}
	which := seeded{binary.BigEndian.Uint64(b), outcome(binary.BigEndian.Uint64(b[8:])), b[16] == 1}
	if which.settled {
		if _, err := conn.Write(sign); err != nil {
			return
		}
	}
	_, err := newConversation(which.seed, which.outcome).speak(conn, asEndpoint)
	k.of(which) <- err
}

// talked is a conversation that was had.
type talked struct {
	*conversation
	client netip.AddrPort
	// heard is what the client heard, hello the length of what it said before.
	heard, hello int
	err          error
}

// converse has one conversation through an engine. A client that breaks off may do
// so before the endpoint has heard what it is asked for, unless it waits for a sign.
func (k *talker) converse(address netip.AddrPort, which seeded) talked {
	c := newConversation(which.seed, which.outcome)
	out := talked{conversation: c}
	conn, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(address))
	if err != nil {
		out.err = err
		return out
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	out.client = conn.LocalAddr().(*net.TCPAddr).AddrPort()
	out.hello, err = ask(conn, which)
	switch {
	case err == nil:
		out.heard, err = c.speak(conn, asClient)
	case isReset(err) && which.outcome == endpointBreaks:
		// It may break off so soon that not even the sign arrives.
		err = nil
	}
	_ = conn.Close()
	if err != nil {
		out.err = fmt.Errorf("client: %w", err)
	}
	if which.outcome != clientBreaks || which.settled || out.heard > 0 {
		if err := k.await(which); err != nil {
			out.err = errors.Join(out.err, fmt.Errorf("endpoint: %w", err))
		}
	}
	return out
}

// ask asks for a conversation, and returns how much it said.
func ask(conn *net.TCPConn, which seeded) (int, error) {
	first := HelloFor(Talker)
	first = binary.BigEndian.AppendUint64(first, which.seed)
	first = binary.BigEndian.AppendUint64(first, uint64(which.outcome))
	first = append(first, 0)
	if which.settled {
		first[len(first)-1] = 1
	}
	if _, err := conn.Write(first); err != nil {
		return 0, err
	}
	if which.settled {
		if _, err := io.ReadFull(conn, make([]byte, len(sign))); err != nil {
			return 0, fmt.Errorf("the endpoint gave no sign: %w", err)
		}
	}
	return len(first), nil
}

// converseAll has conversations of many seeds at once.
func (k *talker) converseAll(address netip.AddrPort, from, to uint64, how outcome, settled bool) []talked {
	out := make([]talked, to-from)
	var all sync.WaitGroup
	for i := range out {
		all.Go(func() { out[i] = k.converse(address, seeded{from + uint64(i), how, settled}) })
	}
	all.Wait()
	return out
}

// conversations are seeded conversations, many at once.
func (c *clients) conversations() []testCase {
	var out []testCase
	for how, name := range []string{
		"that the client ends first", "that the endpoint ends first", "that both end at once",
		"that the client breaks off", "that the endpoint breaks off",
	} {
		out = append(out, testCase{"conversations " + name, seenSo, func(*testing.T) string {
			for _, one := range c.world.talker.converseAll(c.address, 0, uint64(c.conversationsAtOnce), outcome(how), c.settled) {
				if one.err != nil {
					return fmt.Sprintf("seed %d: %v", one.seed, one.err)
				}
			}
			return seenSo
		}})
	}
	return out
}
