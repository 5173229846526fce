package gateway

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/engine"
)

// The hand-over protocol, version 1, on a unix stream socket that the running
// gateway listens on. Every message is one line of JSON.
//
//	successor → predecessor   {"version":1}
//	predecessor → successor   {"version":1,"listeners":["10.0.0.1:8443", …]}
//	predecessor → successor   one byte for each listener, its descriptor beside it
//	successor → predecessor   {"ready":true}       once it accepts on them
//	predecessor → successor   {"draining":true}    it is about to drain
//	successor closes the connection                once it has a socket on the path
//	                                               for its own successor
//
// Until "ready" nothing has changed, and a successor that goes away leaves the
// predecessor as it was. A listening descriptor keeps its queue of connections
// whoever else closes it, so that none is lost in between.
const handoverVersion = 1

// handoverMessage is any line of the protocol.
type handoverMessage struct {
	Version   int      `json:"version,omitempty"`
	Listeners []string `json:"listeners,omitempty"`
	Ready     bool     `json:"ready,omitempty"`
	Draining  bool     `json:"draining,omitempty"`
	Error     string   `json:"error,omitempty"`
}

// handoverStep bounds each step that the other side takes at once.
const handoverStep = 5 * time.Second

// namedListener is a listener by the address that was configured for it.
type namedListener struct {
	name string
	*engine.Listener
}

// handoverServer is the predecessor's side.
type handoverServer struct {
	socket *net.UnixListener
	// listeners are those that are open when a successor asks.
	listeners func() []namedListener
	logger    *slog.Logger
	// done is closed when a successor has taken over.
	done chan struct{}
}

// run answers successors, one at a time, until one has taken over or ctx ends.
func (s *handoverServer) run(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() { _ = s.socket.Close() })
	defer stop()
	for {
		conn, err := s.socket.AcceptUnix()
		if err != nil {
			if ctx.Err() == nil {
				s.logger.Error("no hand-over is possible any more", "err", err)
			}
			return
		}
		took, err := s.serve(ctx, conn)
		if err != nil {
			s.logger.Warn("a successor did not take over", "err", err)
		}
		if took {
			// The path is the successor's now: its socket was renamed over ours.
			_ = s.socket.Close()
			close(s.done)
			return
		}
	}
}

// serve leads one successor through the protocol.
func (s *handoverServer) serve(ctx context.Context, conn *net.UnixConn) (took bool, err error) {
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	lines := bufio.NewReader(conn)
	_ = conn.SetDeadline(time.Now().Add(handoverStep))
	request, err := readMessage(lines)
	if err != nil {
		return false, err
	}
	if request.Version != handoverVersion {
		text := fmt.Sprintf("version %d was asked for; this is version %d", request.Version, handoverVersion)
		return false, errors.Join(fmt.Errorf("%w: %s", ErrHandover, text), writeMessage(conn, handoverMessage{Version: handoverVersion, Error: text}))
	}
	listeners := s.listeners()
	names := make([]string, len(listeners))
	for i, l := range listeners {
		names[i] = l.name
	}
	if err := writeMessage(conn, handoverMessage{Version: handoverVersion, Listeners: names}); err != nil {
		return false, err
	}
	for _, l := range listeners {
		if err := sendDescriptor(conn, l.Listener); err != nil {
			return false, fmt.Errorf("%w: %s: %w", ErrHandover, l.name, err)
		}
	}
	// It is ready when its table is whole, which takes as long as it takes.
	_ = conn.SetDeadline(time.Time{})
	answer, err := readMessage(lines)
	if err != nil || !answer.Ready {
		return false, errors.Join(err, fmt.Errorf("%w: it left before it was ready", ErrHandover))
	}
	_ = conn.SetDeadline(time.Now().Add(handoverStep))
	if err := writeMessage(conn, handoverMessage{Draining: true}); err != nil {
		return true, err
	}
	// Its end is the successor's last word; whoever dies here has taken over.
	_, _ = lines.ReadByte()
	return true, nil
}

// handover is the successor's side, after it was given the listeners.
type handover struct {
	conn      *net.UnixConn
	lines     *bufio.Reader
	listeners []namedListener
	closeOnce sync.Once
}

// askForListeners asks the gateway behind the socket for its listeners. It
// returns nil without an error when no gateway is there.
func askForListeners(path string) (_ *handover, err error) {
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		if isNobody(err) {
			return nil, nil
		}
		return nil, fmt.Errorf("%w: %w", ErrHandover, err)
	}
	h := &handover{conn: conn, lines: bufio.NewReaderSize(onlyBefore{conn}, 64<<10)}
	if err := h.receive(); err != nil {
		h.close()
		for _, l := range h.listeners {
			_ = l.Close()
		}
		return nil, fmt.Errorf("%w: %w", ErrHandover, err)
	}
	return h, nil
}

// onlyBefore reads a byte at a time, so that no byte that carries a descriptor
// is read without it.
type onlyBefore struct{ *net.UnixConn }

func (r onlyBefore) Read(b []byte) (int, error) { return r.UnixConn.Read(b[:min(len(b), 1)]) }

func (h *handover) receive() error {
	_ = h.conn.SetDeadline(time.Now().Add(handoverStep))
	if err := writeMessage(h.conn, handoverMessage{Version: handoverVersion}); err != nil {
		return err
	}
	offer, err := readMessage(h.lines)
	switch {
	case err != nil:
		return err
	case offer.Error != "":
		return errors.New(offer.Error)
	case offer.Version != handoverVersion:
		return fmt.Errorf("version %d was offered; this is version %d", offer.Version, handoverVersion)
	}
	for _, name := range offer.Listeners {
		file, err := receiveDescriptor(h.conn)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		listener, err := listenerOf(file)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		h.listeners = append(h.listeners, namedListener{name, listener})
	}
	return h.conn.SetDeadline(time.Time{})
}

// ready tells the predecessor that its listeners are accepted on here, and waits
// for its word that it drains. For a moment both accept, and both relay. The
// predecessor waits for close.
func (h *handover) ready(ctx context.Context) error {
	stop := context.AfterFunc(ctx, h.close)
	defer stop()
	_ = h.conn.SetDeadline(time.Now().Add(handoverStep))
	if err := writeMessage(h.conn, handoverMessage{Ready: true}); err != nil {
		return fmt.Errorf("%w: %w", ErrHandover, err)
	}
	answer, err := readMessage(h.lines)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrHandover, err)
	}
	if !answer.Draining {
		return fmt.Errorf("%w: the predecessor does not drain", ErrHandover)
	}
	return nil
}

func (h *handover) close() { h.closeOnce.Do(func() { _ = h.conn.Close() }) }

// listenerOf makes a listener of a descriptor, and closes the file.
func listenerOf(file *os.File) (*engine.Listener, error) {
	listener, err := net.FileListener(file)
	err = errors.Join(err, file.Close())
	if err != nil {
		return nil, err
	}
	tcp, ok := listener.(*net.TCPListener)
	if !ok {
		return nil, errors.Join(fmt.Errorf("a %T is not a TCP listener", listener), listener.Close())
	}
	return engine.Adopt(tcp)
}

func writeMessage(w io.Writer, m handoverMessage) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	_, err = w.Write(append(b, '\n'))
	return err
}

func readMessage(r *bufio.Reader) (handoverMessage, error) {
	var m handoverMessage
	b, err := r.ReadSlice('\n')
	if err != nil {
		return m, fmt.Errorf("%w: %w", ErrHandover, err)
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return m, fmt.Errorf("%w: %w", ErrHandover, err)
	}
	return m, nil
}
