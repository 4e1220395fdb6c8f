// Package pkgfs is the program that looks at a peer's package files through this
// machine's dsoftbusd.
//
//	pkgfs -peer ID stat PATH        its size and kind
//	pkgfs -peer ID cat PATH         its content
//	pkgfs -peer ID get PATH FILE    a copy; FILE is replaced only by a whole one
//	pkgfs -peer ID sum PATH         its SHA-256, as sha256sum prints it
//	pkgfs -peer ID bench PATH       reads it into memory and tells how fast
//	pkgfs -peer ID pk LINE…         single operations on one session
//	pkgfs peers                     the devices dsoftbusd knows
//
// A LINE of pk is one argument: "stat PATH", "open PATH", "read HANDLE OFFSET
// LENGTH", "close HANDLE" or "raw HEX". Numbers are decimal, or hexadecimal
// after 0x; a PATH is all that follows the one space, whatever it holds; the
// HANDLE "last" is that of the latest successful open of this invocation (a raw
// one counts). All lines are checked before the first is sent. "await FILE" sends
// nothing and waits until a file of this machine exists.
//
// bench takes -chunk N (bytes of one read) and -window N (requests on the way at
// a time), -bytes N to read only the first N bytes, and -count N to do it N times,
// each with a line of its own; with -sha256 HEX it fails at the first reading of which
// that is not the digest. At most 64 MiB are read. Up to 64 reads that are
// not measured come first, since an emulator translates code when it first runs.
// The time is from the first byte asked for to the last one received; requests are
// the READs in it. The digest, of what was read, is made afterwards.
//
// Flags of every command stand before its name: -socket, -wait for how long to
// wait for a session with the peer, and -timeout for how long to wait for any
// answer. With -retry stat, cat, get and sum go on over a new session, once, when
// theirs is lost. What comes out is one content all the same: the beginning is read
// again and compared, and a file that was replaced meanwhile is an error.
//
// Exit status: 0 when it succeeded (for pk: when every line got an answer,
// whatever its status), 1 when it failed, with the reason on standard error, 2
// for wrong usage.
package pkgfs
