// Package packagefsd owns the package store of a machine: which file a name
// means, and the service that hands such files out, open and read-only, to
// the other programs of the machine.
//
// # Store
//
//	<root>/<bundle>@<version>/<path…>
//
// A name with a version means exactly that directory. A name without one means
// the bundle's active version: the highest semantic version present as a
// directory (semver.org precedence, all three numbers required; of versions
// that differ in build metadata alone, the last in byte order). A version that
// is not semantic, like "1.0" or "dev", is never active: there is no order in
// which it could be the highest, so it is reached by its exact name only, and a
// bundle that has no other has no active version.
//
// Links are followed as long as they stay inside the root. Whatever is not a
// regular file in the end is not found: directories, devices, FIFOs, and links
// that lead out.
//
// Files are handed out as descriptors, so removing or renaming what they came
// from does not touch what they read. A package is replaced by renaming. A file
// that is rewritten in place under an open descriptor is noticed (as far as
// its size and modification time tell) and fails from then on; mixed content is
// never returned.
//
// # Service
//
// One request and one answer per connection of a SOCK_SEQPACKET unix socket,
// each one message, integers little endian:
//
//	request   'P' 'F' 1 op   bundle length u16, version length u16, bundle, version, path
//	answer    'P' 'F' 1 status   size u64, text
//
// An answer with status OK to a resolve request carries one descriptor
// (SCM_RIGHTS); any other carries none, and its text says why.
//
// The package never writes to the store and never reads a file's content on
// the server's side. It knows nothing of peers, sessions or handles.
package packagefsd
