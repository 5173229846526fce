// Package wan makes two places with a wide-area network between them, on one
// Linux machine without netem: each side is a network namespace of its own with a
// TUN device, and this process carries the packets from one to the other, each of
// them late by the same time.
//
//	link, err := wan.Open(wan.Options{Delay: 25 * time.Millisecond})
//	…
//	listener, err := link.Right.Listen(netip.AddrPortFrom(link.Right.Address(), 8443))
//	conn, err := link.Left.Dial(ctx, netip.AddrPortFrom(link.Right.Address(), 8443))
//	err = link.Left.Start(exec.Command("isthmus", "gateway", …))
//
// The promises:
//
//   - No packet arrives before its delay is over, and packets arrive in the
//     order in which they were sent: a round trip takes at least twice the delay.
//     How much more it takes is up to the machine.
//   - What is under way is bounded. What comes beyond that is dropped, as a
//     router drops it, and counted.
//   - A packet is carried whole and unchanged, or not at all.
//   - After [Link.Close] there is neither device nor goroutine nor descriptor of
//     it; a namespace lives on only in what was started in it.
//
// Each side has a loopback of its own too, so servers of both sides may have the
// same address there. It needs the rights of root; [Open] says which one was
// missing.
package wan
