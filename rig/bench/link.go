package bench

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"text/template"
	"time"

	"dsoftbus-rig/rig/record"
)

// Link is what the link between two nodes of one run carries. The rounds go through all of it one after the other, so that a
// neighbour's noise meets all alike.
type Link struct {
	PingMedian *Samples `json:"ping_median_seconds,omitempty"` // of each round's ICMP round trips
	PingP95    *Samples `json:"ping_p95_seconds,omitempty"`
	PingLost   int      `json:"ping_lost"`                     // echoes that never came, of all rounds
	TCP        *Samples `json:"tcp_mb_per_second,omitempty"`   // a plain stream; 1 MB is 1,000,000 bytes
	Noise      *Samples `json:"noise_mb_per_second,omitempty"` // the same in Noise records of 32 KiB

	Reads []Read `json:"reads,omitempty"`

	// ReadsOverNoise is pipelined reads of 32 KiB over Noise, PipelinedOverSingle pipelined reads of 128 bytes over those that
	// wait for each other, both round by round.
	ReadsOverNoise      *Samples `json:"reads_over_noise,omitempty"`
	PipelinedOverSingle *Samples `json:"pipelined_over_single,omitempty"`
}

// A Read is one way to read a package file of the other node.
type Read struct {
	Chunk     int      `json:"chunk_bytes"` // of one request
	Pipelined bool     `json:"pipelined"`   // false: a request is sent when the last one was answered
	Bytes     int      `json:"read_bytes"`  // of the file
	Rate      *Samples `json:"mb_per_second,omitempty"`
	Requests  *Samples `json:"requests_per_second,omitempty"`
}

// The file that is read is made of a piece of text, since a scenario is text, several times over.
const (
	pieceSize   = 1 << 20
	pieceCopies = 8
	pieceSeed   = 1
	streamBytes = pieceSize * pieceCopies
)

const (
	linkStep  = 30 * time.Second // how long one measurement may take, before scaling; the longest takes some seconds under emulation
	linkRound = time.Minute      // a round of all, before scaling
	pings     = 100
)

// A linkProbe is one command of a round, with what to do with the line it prints.
type linkProbe struct {
	command string
	keys    []string // that its line has to have
	take    func(*linkTally, map[string]string, map[string]float64) error
}

// A linkTally collects the rounds of a Link.
type linkTally struct {
	pingMedian, pingP95, tcp, noise []float64
	lost                            int
	rates, requests                 map[int][]float64 // by index in reads
}

// reads are the ways of reading that are measured. Both ways of a chunk read as much, and no more than takes some seconds.
var reads = []Read{
	{Chunk: 128, Pipelined: true, Bytes: 256 << 10},
	{Chunk: 128, Pipelined: false, Bytes: 256 << 10},
	{Chunk: 4 << 10, Pipelined: true, Bytes: 1 << 20},
	{Chunk: 4 << 10, Pipelined: false, Bytes: 1 << 20},
	{Chunk: 32 << 10, Pipelined: true, Bytes: streamBytes},
	{Chunk: 32 << 10, Pipelined: false, Bytes: streamBytes},
}

// linkProbes returns the commands of a round; file is what is read.
func linkProbes(file []byte) []linkProbe {
	rate := func(to func(*linkTally) *[]float64) func(*linkTally, map[string]string, map[string]float64) error {
		return func(t *linkTally, _ map[string]string, v map[string]float64) error {
			if v["bytes"] != streamBytes {
				return fmt.Errorf("%.0f bytes came, not %d", v["bytes"], streamBytes)
			}
			*to(t) = append(*to(t), v["MB/s"])
			return nil
		}
	}
	stream := []string{"bytes", "seconds", "MB/s"}
	probes := []linkProbe{
		{fmt.Sprintf("netbench -peer $B_IP ping -count %d", pings), []string{"count", "lost", "min_us", "median_us", "p95_us", "max_us"},
			func(t *linkTally, _ map[string]string, v map[string]float64) error {
				t.pingMedian = append(t.pingMedian, v["median_us"]/1e6)
				t.pingP95 = append(t.pingP95, v["p95_us"]/1e6)
				t.lost += int(v["lost"])
				return nil
			}},
		{fmt.Sprintf("netbench -peer $B_IP tcp -bytes %d", streamBytes), stream, rate(func(t *linkTally) *[]float64 { return &t.tcp })},
		{fmt.Sprintf("netbench -peer $B_IP noise -bytes %d -record 32768", streamBytes), stream, rate(func(t *linkTally) *[]float64 { return &t.noise })},
	}
	for i, read := range reads {
		window := ""
		if !read.Pipelined {
			window = " -window 1"
		}
		digest := digestOf(file[:read.Bytes])
		probes = append(probes, linkProbe{
			fmt.Sprintf("pkgfs -peer node-b bench -chunk %d%s -bytes %d pkg:/bench/blob", read.Chunk, window, read.Bytes),
			append(stream, "requests/s"),
			func(t *linkTally, words map[string]string, v map[string]float64) error {
				if words["sha256"] != digest {
					return fmt.Errorf("what came is not what is there: its SHA-256 is %q, not %s", words["sha256"], digest)
				}
				t.rates[i] = append(t.rates[i], v["MB/s"])
				t.requests[i] = append(t.requests[i], v["requests/s"])
				return nil
			},
		})
	}
	return probes
}

// digestOf returns a SHA-256 as programs of a node print it.
func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// parseWords reads a line of key=value words, of which those that are named have to be there and be numbers from 0. The other
// words are not looked at.
func parseWords(line string, keys []string) (words map[string]string, numbers map[string]float64, err error) {
	words, numbers = map[string]string{}, map[string]float64{}
	for word := range strings.SplitSeq(strings.TrimSpace(line), " ") {
		if key, value, ok := strings.Cut(word, "="); ok {
			words[key] = value
		}
	}
	for _, key := range keys {
		value, ok := words[key]
		if !ok {
			return nil, nil, fmt.Errorf("no %s= in %q", key, line)
		}
		n, err := strconv.ParseFloat(value, 64)
		if err != nil || n < 0 || math.IsNaN(n) || math.IsInf(n, 0) {
			return nil, nil, fmt.Errorf("%s=%s is no number from 0, in %q", key, value, line)
		}
		numbers[key] = n
	}
	return words, numbers, nil
}

// piece returns the text that the file is made of: random letters and digits.
func piece() []byte {
	var seed [32]byte
	seed[0] = pieceSeed
	random := make([]byte, pieceSize)
	_, _ = rand.NewChaCha8(seed).Read(random) // it never fails
	text := base64.StdEncoding.AppendEncode(nil, random)[:pieceSize]
	text[pieceSize-1] = '\n'
	return text
}

// linkScenario returns the script of so many rounds, the first of which is number 0.
func linkScenario(probes []linkProbe, rounds int, text []byte) ([]byte, error) {
	source, err := scripts.ReadFile("scripts/link.txtar.tmpl")
	if err != nil {
		return nil, err
	}
	t, err := template.New("link").Parse(string(source))
	if err != nil {
		return nil, err
	}
	data := struct {
		Seed     int
		Pieces   []struct{}
		Rounds   []int
		Commands []string
		Within   time.Duration
		Piece    string
	}{Seed: pieceSeed, Pieces: make([]struct{}, pieceCopies), Within: linkStep, Piece: strings.TrimSuffix(string(text), "\n")}
	for i := range rounds {
		data.Rounds = append(data.Rounds, i)
	}
	for _, probe := range probes {
		data.Commands = append(data.Commands, probe.command)
	}
	var out bytes.Buffer
	err = t.Execute(&out, data)
	return out.Bytes(), err
}

// measureLink plays one scenario that has all rounds: new machines would have to translate every program anew under emulation. Its
// first round does that, and is not counted.
func measureLink(ctx context.Context, p *player, r *Report) error {
	rounds := p.cfg.rounds(someRounds)
	p.cfg.Log(fmt.Sprintf("link: %d rounds between two nodes", rounds))
	text := piece()
	probes := linkProbes(bytes.Repeat(text, pieceCopies))
	script, err := linkScenario(probes, rounds+1, text)
	if err != nil {
		return err
	}
	item, err := p.item("link", script)
	if err != nil {
		return err
	}
	es, err := p.play(ctx, item, playWait+time.Duration(rounds+1)*linkRound, nil)
	link, parseErr := readLink(es, probes)
	r.Link = link
	if err != nil {
		return err
	}
	return parseErr
}

// readLink makes figures of a scenario's events.
func readLink(es events, probes []linkProbe) (*Link, error) {
	t := &linkTally{rates: map[int][]float64{}, requests: map[int][]float64{}}
	next, err := 0, error(nil)
	var stdout strings.Builder
	for _, e := range es {
		switch {
		case e.Kind == record.KindStepStart:
			stdout.Reset()
		case e.Kind == record.KindOutput && e.Stream == "stdout":
			stdout.WriteString(e.Text)
		case e.Kind == record.KindStepEnd && e.Error == "" && err == nil:
			err = t.step(es, e, &next, probes, stdout.String())
		}
	}
	return t.link(), err
}

// step takes what the step that ends with an event has printed, if it is the next of the probes. *next counts them from the first
// round on.
func (t *linkTally) step(es events, end record.Event, next *int, probes []linkProbe, said string) error {
	command := ""
	for _, e := range es {
		if e.Kind == record.KindStepStart && e.Step == end.Step {
			command = e.Text
		}
	}
	probe := probes[*next%len(probes)]
	if !strings.HasSuffix(command, " A "+probe.command) {
		return nil
	}
	words, numbers, err := parseWords(said, probe.keys)
	if err != nil {
		return fmt.Errorf("%s: %w", probe.command, err)
	}
	if *next >= len(probes) {
		if err := probe.take(t, words, numbers); err != nil {
			return fmt.Errorf("%s: %w", probe.command, err)
		}
	}
	*next++
	return nil
}

// link returns the figures, nil when no round has even begun.
func (t *linkTally) link() *Link {
	if len(t.pingMedian) == 0 {
		return nil
	}
	l := &Link{
		PingMedian: sampled(t.pingMedian), PingP95: sampled(t.pingP95), PingLost: t.lost,
		TCP: sampled(t.tcp), Noise: sampled(t.noise),
	}
	for i, read := range reads {
		if len(t.rates[i]) == 0 {
			continue
		}
		read.Rate, read.Requests = sampled(t.rates[i]), sampled(t.requests[i])
		l.Reads = append(l.Reads, read)
	}
	rates := func(chunk int, pipelined bool) []float64 {
		for i, read := range reads {
			if read.Chunk == chunk && read.Pipelined == pipelined {
				return t.rates[i]
			}
		}
		return nil
	}
	l.ReadsOverNoise = sampled(quotients(rates(32<<10, true), t.noise))
	l.PipelinedOverSingle = sampled(quotients(rates(128, true), rates(128, false)))
	return l
}
