// Package selftestclient is the program selftest-client, which proves, step by
// step, that this machine can read a peer's package file, and says so in markers
// on standard output.
//
//	selftest-client remote-pkgfs -peer ID [-sha256 HEX] [-chunk N] PATH
//
// prints, each line when what it says has happened,
//
//	SELFTEST: remote pkgfs stat ok
//	SELFTEST: remote pkgfs open ok
//	SELFTEST: remote pkgfs read step ok     the first chunk has arrived
//	SELFTEST: remote pkgfs close ok         after the whole file was read
//	SELFTEST: remote pkgfs read ok          the SHA-256 of the whole is the expected one
//
// or, and then nothing more, "SELFTEST: remote pkgfs <step> FAIL <reason>" with
// one of the steps session, stat, open, read step, read, close.
//
// Without -sha256 the expected digest is that of a second reading, on a
// connection, handle and chunk length of its own. That cannot tell whether the
// file is the right one, but that what arrives is what the peer has.
//
// Exit status: 0 when everything was ok, 1 after a FAIL, 2 for wrong usage.
package selftestclient
