// Package vitals is the program that looks at how much services of this machine hold, so that a test can tell one that leaks.
//
//	vitals [-save FILE] PROGRAM…                            prints them, and keeps them in FILE
//	vitals -against FILE [-fds N] [-rss KIB] [-within D] PROGRAM…    prints them, and compares them with FILE
//
// prints a line for each PROGRAM, in the order in which they are named:
//
//	dsoftbusd pid=93 fds=14 rss_kb=9120 threads=6
//
// A process is found by its name (comm). That there is none, or several, is an error.
//
// With -against it fails, naming what grew and by how much, when a service has more than N descriptors more than FILE says
// (default 0), or more than KIB KiB more resident memory (default 4096), or is another process than it was. Threads are
// printed only: the Go runtime keeps those it once needed. It also collects memory for the first time when there are 4 MiB, so a
// service that has done little when FILE was saved can grow by more than that and lose nothing. With -within it looks again, by
// this machine's clock, before it says that something has grown: services give back some time after their clients have gone.
//
// Exit status: 0, 1 when it failed or something grew, with the reason on standard error, 2 for wrong usage.
package vitals
