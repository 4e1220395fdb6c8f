// Package netbench is the program that measures the link between two machines, so that what dsoftbusd and pkgfs make of it
// can be compared with what it gives.
//
//	netbench serve [-listen :7700]                                  answers measurements until it is killed
//	netbench -peer IP[:PORT] ping [-count N]                        ICMP echo round trips
//	netbench -peer IP[:PORT] tcp [-bytes N]                         a plain TCP stream from the peer
//	netbench -peer IP[:PORT] noise [-bytes N] [-record N] [-plain]  the same in records of a session
//
// serve prints "netbench: ready" when it listens. It serves one connection after another, each bounded in bytes and time.
// ping needs no serve at the peer: its kernel answers.
//
// A stream is what the peer sends without being asked for each piece: tcp in writes of 32 KiB, noise in records that each
// carry what the answer to a READ of -record bytes would. The session's key pair is a constant of this program: it encrypts
// as every session does, and authenticates nobody. Its sockets are read and written as dsoftbusd does (package quickconn), so
// that what reads are compared with is the best that the link gives; with -plain both sides do it as any Go program does.
//
// Each measurement begins with a warm-up of the same kind that is not in the figures, since an emulator translates code when
// it first runs: 64 writes or records (fewer if -bytes is less than that), 3 echoes. The time of a stream is from the moment
// it is asked for to its last byte; MB are 10^6 bytes of what is carried, headers and tags not counted.
//
// The result is one line of key=value words on standard output:
//
//	count=100 lost=0 min_us=301 median_us=340 p95_us=590 max_us=1204
//	bytes=16777216 seconds=0.415210 MB/s=40.4075
//
// Exit status: 0 when it measured, 1 when it failed, with the reason on standard error, 2 for wrong usage.
package netbench
