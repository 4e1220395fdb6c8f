// Package remotefs owns the client's side of a peer's package files: it asks
// the machine's dsoftbusd for the way to a peer and reads files there, by
// whole requests (Stat, Open), as an ordinary file (io.ReaderAt,
// io.ReadSeekCloser, io.WriterTo, fs.File), or frame by frame (Do).
//
// Reads are cut into chunks and pipelined: up to Options.Window requests are
// on the way at a time. A server that finds the chunks too long gets shorter
// ones from then on.
//
// Answers of a session come in the order of the requests, so one unanswered
// request holds all later ones; the session is given up when nothing has been
// answered for Options.Timeout. Everything pending then ends at once with a
// SessionError, which names the peer. The verdict of a server on one request
// is a *pk.StatusError, and matches fs.ErrNotExist and the like by errors.Is.
//
// The package holds no sessions and no keys, and caches nothing. A Client never
// reconnects: one whose session was lost stays lost. A Reader does, if asked, for
// what may be asked twice, and never puts together what is not of one content.
package remotefs
