// Package localapi owns what programs of one machine say to each other over
// dsoftbusd's unix socket: the message framing, the control messages, and how
// such a socket is claimed and reached. Both sides live here, so that they
// cannot drift apart.
//
// It never looks into a PK frame (those pass byte for byte), holds no session,
// starts no goroutine, and never touches the network.
//
// # Messages
//
// Either direction is a stream of messages:
//
//	length u16 big endian | kind u8 | body (length bytes)
//
// Kind 0 carries one PK frame, kind 1 one JSON control object. The client's
// first message is control, and is one of
//
//	{"open":{"peer":"node-b","wait_ms":5000}}   then {"ok":true}, then PK frames both ways, in order
//	{"peers":true}                              then {"peers":[…]}, with "more":true on all but the last
//
// # Shared memory
//
// An open request with "shared":true asks for memory to pass long answers in. Where
// there is some, the reply is {"ok":true,"shared":true} and carries a descriptor
// (SCM_RIGHTS): 2 MiB that only dsoftbusd can write to, as 32 slots of 64 KiB. Kind
// 2 then stands for a frame that lies there (slot u16, length u16, both big
// endian). Kind 3 is from the program and gives slots back, those filled first
// (count u16); it comes in front of other messages, never alone, so that it wakes
// nobody up. A frame that finds no free slot is sent as kind 0. All of this happens
// behind Recv and Queue.
//
// # Errors
//
// A refused request gets {"error":"…","code":"…"} and the connection ends. The
// same object with code "session-lost" ends an open connection whose session
// died.
package localapi
