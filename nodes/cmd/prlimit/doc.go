// Package prlimit is the program that takes descriptors away from a running service of this machine, and gives them back, so that a test can see
// what a service does without.
//
//	prlimit -nofile N PROGRAM       it may have descriptors below N only: N is RLIMIT_NOFILE, as in prlimit(2)
//	prlimit -nofile max PROGRAM     as many as it may ever have
//	prlimit -spare N PROGRAM        N more than it has now
//	prlimit PROGRAM                 changes nothing
//
// prints what holds now, and how many more descriptors there can be:
//
//	dsoftbusd pid=93 fds=14 nofile=16 spare=2
//
// With -start it starts a program in its own place instead, which has descriptors below N only from its first moment on and cannot raise that limit:
//
//	prlimit -start -nofile N PROGRAM [ARG...]
//
// Descriptors that are open stay open, whatever their numbers. The process is found by its name (comm); that there is none, or several, is an error.
//
// Exit status: 0, 1 when it failed, with the reason on standard error, 2 for wrong usage.
package prlimit
