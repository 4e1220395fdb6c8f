// Package pk owns the bytes of PK v1, the read-only package file protocol that two paired devices speak on channel 4 of
// a session: requests, responses, statuses, the path rules and the limits of a server.
//
// It turns bytes into values and back, and nothing else: it holds no handles, opens no files, knows no clock and no
// socket. Encoders append to a slice of the caller's; decoders return views of the frame they were given.
//
// A request (integers little endian, the length exact):
//
//	STAT, OPEN   'P' 'K' 1 op  path length u16 @4, path @6
//	READ         'P' 'K' 1 3   handle u32 @4, offset u32 @8, length u16 @12
//	CLOSE        'P' 'K' 1 4   handle u32 @4
//
// A response:
//
//	rejected     'P' 'K' 1 op|0x80  status @4
//	STAT         ... status @4, size u64 @5, kind u16 @13
//	OPEN         ... status @4, handle u32 @5
//	READ         ... status @4, n u16 @5, data @7
//	CLOSE        ... status @4
package pk
