// Package coverage has programs of a machine say which of their statements have run, while they run on: the Go runtime writes that only when a program
// ends by itself.
//
// It says whether a binary counts, and writes its counters. Who is asked for them, and when, is decided in nodes/agent and nodes/cmd/node. An ordinary
// binary has nothing of it: On is a constant, so what is done only when it is true is not compiled in.
//
// A binary that counts is built with
//
//	go build -cover -covermode=atomic -tags=covered
//
// and has GOCOVERDIR in its environment, a folder.
package coverage
