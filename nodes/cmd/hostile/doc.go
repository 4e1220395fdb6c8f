// Package hostile is the program that attacks another machine's dsoftbusd, so that it can be seen to hold: as a stranger with a
// key of its own making, as a paired peer that has gone bad, and as somebody in between.
//
//	hostile -peer IP[:PORT] [-victim ID] ATTACK [FLAGS]
//	hostile memory [-program NAME] [-most MIB]
//
// A stranger's attacks need nothing but the victim's public key, which every announce holds:
//
//	full [-count N]       connections that never do a handshake: the 17th is closed; when they go a handshake is answered
//	slow                  a handshake of a byte each half second, against the deadline of 5 s
//	garbage [-count N]    bytes that are no handshake: not one is answered
//	unpaired              handshakes with a key that nobody is paired with, under an id of its own and under the device's
//	impostor [-as ID]     announces of a paired id with another key
//	announces [-count N] [-rate N] [-devices N]    announces of as many devices, or of fewer in turn
//	lies -as ID [-count N] [-rate N]    announces of a paired id with its true key, as if it were on this machine
//	everywhere -as ID [-count N] [-rate N]    the same from a new address and port each time, by a raw socket
//	listens [-count N]    no attack: how often the victim announces itself
//	datagrams [-count N]  announces that are malformed, cut, too long, or empty
//
// As the paired peer that this device is; its own dsoftbusd must be stopped, and its id be the smaller one:
//
//	replay                the messages of a handshake that was good, once more
//	pk                    every kind of request that the contract rejects, and every operation it does not know
//	reads [-count N]      reads without end
//	handles [-limit N]    handles up to the limit, and over it; a session that ends frees them
//	pipeline [-count N]   requests sent without waiting for answers, which must come in their order
//	deaf [-count N]       the same without reading any answer
//	ahead [-count N]      large requests while the victim's package service stands still: the victim must stop reading
//	channel               a record on a channel that there is not
//	unasked               a response that answers no request
//	silence               half a record and then nothing
//	undecryptable         a record of garbage
//	lengths               records that are too short, or are cut after a length of 65,535
//	turnover [-count N]   sessions that each replace the one before
//	mute                  a handshake and no record: that is no session
//	serve [-for D]        answers the victim's programs like a server, and refuses to close the file
//
// As the paired peer that is dialled; its own dsoftbusd must be stopped, and its id be the larger one. It serves this machine's
// packages until -for is over, honestly but for one thing:
//
//	short [-at N]         answers a READ that reaches over byte N of a file as if the file ended there
//	stuck                 stops reading at a long request and breaks the session, so that the victim cannot send its last record
//
// As a program of this machine, whose dsoftbusd runs:
//
//	again -id ID [-count N]    long requests until the session is lost, and at once another session, which must work
//
// In between:
//
//	relay -listen ADDRESS -to IP [-record N] [-from victim|dialler] [-for D]
//
// announces itself as the victim to the device at IP, which will dial it, and passes everything on but for one bit of the Nth
// record: whoever gets that one must end the session. Afterwards it changes nothing more, until -for is over.
//
// memory looks at a program of this machine, since what an attack costs cannot be seen from outside.
//
// Every load is bounded in count and time, and every attack ends by itself. It prints one line, "ATTACK ok FACTS…", and the
// exit status is 0, when the victim behaved as the wire contract demands; 1 when not, with the reason on standard error; 2 for
// wrong usage. It attacks the peer and address it is given, and nobody else.
package hostile
