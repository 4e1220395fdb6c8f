// Package scenario is the language in which scenarios are written: it reads a
// scenario file, checks all of it before anything runs, and runs it statement by
// statement against a World of nodes.
//
// It owns the grammar, the commands with their usage, help and completion, the
// checks, and the engine with its deadlines, background jobs and output. It never
// starts a machine, never reads a guest's stream and never writes a record: nodes
// come in as a World, and what happens goes out as events.
//
// docs/scenarios.md describes the language for those who write scenarios.
package scenario
