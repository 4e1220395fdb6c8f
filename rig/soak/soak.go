// Package soak makes scenarios of many rounds of reads under faults that are drawn from a seed, and tells from their events how
// much was compared.
//
// It knows the language as its readers do, and nothing of machines: what it makes is a file as any other, played as any other.
package soak

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
)

// MaxRounds is how many rounds one scenario can have: as many as fit into the lines that a script may have.
const MaxRounds = 700

// vitalsEvery is after how many rounds it is looked whether the services have grown.
const vitalsEvery = 20

// moreMemory is how much memory, in KiB, a service may have more than at first. The Go runtime collects for the first time when there
// are 4 MiB, so until then memory grows by whatever is done; seen were up to 5.5 MiB after thousands of operations, and then no more.
const moreMemory = 8192

// sequence tells the numbers of this package from those that others draw with the same seed.
const sequence = 0x736f616b

// A file is one that a node serves: count blocks of random bytes.
type file struct {
	node, variable string
	block, count   int
}

func (f file) name() string { return strings.ToLower(f.variable) }
func (f file) path() string { return "pkg:/soak/" + f.name() }

// reader is who reads from a node, by its name and as flags of pkgfs.
func (f file) reader() string {
	if f.node == "A" {
		return "B pkgfs -peer node-a"
	}
	return "A pkgfs -peer node-b"
}

// A script is a scenario that is being made.
type script struct {
	rng   *rand.Rand
	out   bytes.Buffer
	files []file // of B, by their size
	back  file   // of A
	last  file   // that was tried
	deck  []func() fault
}

// Generate returns the scenario of a seed: that many rounds. The same seed and rounds give the same text.
func Generate(seed uint64, rounds int) []byte {
	s := &script{rng: rand.New(rand.NewPCG(seed, sequence))}
	s.line("# Reads under random faults: each fails or delivers what the peer has, and all is well when the fault is over.")
	s.line("# Made by rig soak -seed %d -rounds %d; do not edit.", seed, rounds)
	s.prepare()
	for round := 1; round <= rounds; round++ {
		s.round(round)
		if round%vitalsEvery == 0 || round == rounds {
			s.line("\n# Nothing has grown after %d rounds.", round)
			s.line("exec * vitals -against /tmp/vitals -within 20s -rss %d dsoftbusd packagefsd", moreMemory)
		}
	}
	for _, node := range []string{"A", "B"} {
		s.line("\n-- %s/packages/soak@1.0.0/build.prop --\nro.soak.node=%[1]s", node)
	}
	return s.out.Bytes()
}

func (s *script) line(format string, args ...any) { fmt.Fprintf(&s.out, format+"\n", args...) }

// between returns a number from least to most.
func (s *script) between(least, most int) int { return least + s.rng.IntN(most-least+1) }

// in reports true once in n times.
func (s *script) in(n int) bool { return s.rng.IntN(n) == 0 }

func oneOf[T any](s *script, of ...T) T { return of[s.rng.IntN(len(of))] }

// prepare brings the nodes up with their files, and has read each once.
func (s *script) prepare() {
	s.files = []file{
		{"B", "F1", s.between(1, 2000), 1},
		{"B", "F2", s.between(20_000, 40_000), 2}, // around the length of one answer
		{"B", "F3", s.between(20_000, 60_000), 8},
		{"B", "F4", s.between(100_000, 200_000), 16},
	}
	s.back = file{"A", "G1", s.between(10_000, 50_000), 5}
	s.line("up")
	for _, f := range append(s.files, s.back) {
		s.line("exec %s dd if=/dev/urandom of=/packages/soak@1.0.0/%s bs=%d count=%d", f.node, f.name(), f.block, f.count)
		s.line("pull %s /packages/soak@1.0.0/%s %[2]s", f.node, f.name())
		s.line("sha256 %s %s", f.variable, f.name())
	}
	s.line("\n# What is needed for reads is there before it is looked at how much that is.")
	for _, f := range append(s.files, s.back) {
		s.sure(f, 3)
	}
	s.line("exec * vitals -save /tmp/vitals dsoftbusd packagefsd")
}

// A fault is what a round does to the nodes, and how that ends; it ends by itself when end is empty.
type fault struct {
	begin, end string
	stops      bool // nothing crosses, or nothing is done: a read that began before is a job, and goes on until the end
}

func (s *script) round(n int) {
	what := s.fault()
	title := strings.Replace(what.begin, " -maybe", "", 1)
	if title == "" {
		title = "nothing happens"
	}
	s.line("\n# Round %d: %s", n, title)
	switch {
	case what.stops:
		s.stopped(what)
	case what.begin != "":
		s.line("%s", what.begin)
		for range s.between(1, 3) {
			s.tried(s.small(), "")
		}
	}
	if what.end != "" && !what.stops {
		s.line("%s", what.end)
	}
	f, times := s.any(), oneOf(s, 1, 1, 5, 10)
	if f == s.files[len(s.files)-1] {
		times = min(times, 2) // the largest takes the time of many others
	}
	s.sure(f, times)
	if s.in(2) {
		s.sure(s.small(), s.between(5, 30))
	}
	if s.in(4) {
		s.sure(s.back, s.between(1, 5))
	}
}

// stopped has reads on their way when a fault begins that stops them.
func (s *script) stopped(f fault) {
	job := !s.in(4)
	if job {
		s.tried(s.any(), "&read&")
		if s.in(2) {
			s.line("sleep %dms", s.between(10, 400))
		}
	}
	s.line("%s", f.begin)
	hold := s.between(50, 900)
	if s.in(5) {
		hold = s.between(3200, 4500) // longer than a session lives
	}
	s.line("sleep %dms", hold)
	s.line("%s", f.end)
	if job {
		s.line("wait read")
		s.checked()
	}
}

// fault draws the next of a deck in which each kind is, so that ten rounds have all of them; begin is empty when nothing happens.
func (s *script) fault() fault {
	if len(s.deck) == 0 {
		s.deck = []func() fault{s.nothing, s.block, s.partition, s.pause, s.cable, s.clock, s.link, s.link, s.link, s.link}
		s.rng.Shuffle(len(s.deck), func(i, j int) { s.deck[i], s.deck[j] = s.deck[j], s.deck[i] })
	}
	draw := s.deck[0]
	s.deck = s.deck[1:]
	return draw()
}

func (s *script) node() string { return oneOf(s, "A", "B") }

func (s *script) nothing() fault { return fault{} }

func (s *script) block() fault {
	ends := oneOf(s, "A B", "B A")
	if s.in(2) {
		ends += " tcp 34567"
	}
	return fault{"block -maybe " + ends, "unblock", true}
}

func (s *script) partition() fault { return fault{"partition -maybe", "heal", true} }

func (s *script) pause() fault {
	node := s.node()
	return fault{"pause " + node, "resume " + node, true}
}

func (s *script) cable() fault {
	node := s.node()
	return fault{"link -maybe " + node + " down", "link " + node + " up", true}
}

func (s *script) clock() fault {
	return fault{fmt.Sprintf("clock %s %s%dm", s.node(), oneOf(s, "+", "-"), s.between(1, 3000)), "", false}
}

func (s *script) link() fault {
	return fault{"link -maybe " + oneOf(s, "A", "B", "*") + " " + s.impairment(), "heal", false}
}

// impairment draws one to three things that can happen to what a node sends.
func (s *script) impairment() string {
	kinds := []string{"delay", "loss", "dup", "corrupt", "rate"}
	s.rng.Shuffle(len(kinds), func(i, j int) { kinds[i], kinds[j] = kinds[j], kinds[i] })
	var words []string
	for _, kind := range kinds[:s.between(1, 3)] {
		switch kind {
		case "delay":
			delay := s.between(1, 60)
			words = append(words, fmt.Sprintf("delay=%dms", delay))
			if s.in(2) {
				words = append(words, fmt.Sprintf("jitter=%dms", s.between(1, delay)))
			}
			if s.in(3) {
				words = append(words, fmt.Sprintf("reorder=%d%%", s.between(1, 25)))
			}
		case "loss":
			words = append(words, fmt.Sprintf("loss=0.%d%%", s.between(1, 9)))
			if s.in(2) {
				words[len(words)-1] = fmt.Sprintf("loss=%d%%", s.between(1, 5))
			}
		case "dup":
			words = append(words, fmt.Sprintf("dup=%d%%", s.between(1, 20)))
		case "corrupt":
			words = append(words, fmt.Sprintf("corrupt=0.%d%%", s.between(1, 9)))
			if s.in(2) {
				words[len(words)-1] = fmt.Sprintf("corrupt=%d%%", s.between(1, 2))
			}
		case "rate":
			words = append(words, fmt.Sprintf("rate=%dmbit", oneOf(s, 4, 10, 20, 50)))
		}
	}
	return strings.Join(words, " ")
}

func (s *script) any() file { return oneOf(s, s.files...) }

// small draws a file of which some can be read while a link is bad.
func (s *script) small() file { return oneOf(s, s.files[:3]...) }

// tried is a read that may fail, but must not print anything but the right digest; job is empty, or the job it is.
func (s *script) tried(f file, job string) {
	s.line("%s", strings.TrimSuffix(fmt.Sprintf("? exec -within 8s %s -wait 2s sum %s %s", f.reader(), f.path(), job), " "))
	s.last = f
	if job == "" {
		s.checked()
	}
}

// checked is the check of the last read that was tried. A program that failed has printed nothing.
func (s *script) checked() { s.line(`stdout -whole \A(\z|$%s\s)`, s.last.variable) }

// sure is a number of reads that must succeed, once the session is back.
func (s *script) sure(f file, times int) {
	if times == 1 {
		s.line("* exec -within 20s %s sum %s", f.reader(), f.path())
		s.line(`stdout ^$%s\s`, f.variable)
		return
	}
	s.line("* exec -within 20s %s bench %s -count %d", f.reader(), f.path(), times)
	s.line(`stdout -count %d sha256=$%s$`, times, f.variable)
}
