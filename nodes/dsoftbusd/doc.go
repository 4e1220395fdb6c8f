// Package dsoftbusd owns everything between a device and its peers: announcing and hearing announces, who is dialled and
// who is let in, one session for each paired device, the PK server on it, and the unix socket through which programs of
// this machine use those sessions.
//
// It holds no file access of its own: what a package path means is asked of a packagefsd.Resolver. It never keeps or prints a
// key of a session, except to a key log that it was given, never trusts an announce for more than an address to try, and starts nothing that Run does not wait for.
//
// # What runs
//
// Run starts one goroutine that announces, one that hears, one that accepts sessions, one that accepts programs, and one
// for each paired device that this one dials. A session is a link: one goroutine receives, one serves the peer's requests in
// order, one sends pings, one closes handles that programs left open. Every limit is in Limits and printed at the start.
//
// # Both directions on one channel
//
// Of two paired devices the one with the smaller id dials, so both are client and server on the same session and the same
// channel. A frame is the answer to the oldest request on its way if it looks like that answer (magic, version, the
// request's operation with the response bit); everything else is a request.
package dsoftbusd
