package prompt

import (
	"context"
	"slices"
	"strings"
	"time"
)

// completeWait bounds how long a tabulator key waits for an answer: a person would rather go on typing.
const completeWait = 2 * time.Second

// completer returns what x/term calls for every key: a tabulator completes the word in front of the cursor as far as it is certain, and
// lists what it can become when it is not; keys of a search are the search's.
func (p *Prompt) completer(ctx context.Context) func(line string, pos int, key rune) (string, int, bool) {
	search := &search{history: p.o.History}
	return func(line string, pos int, key rune) (string, int, bool) {
		if key, ok := searchKey(key); ok {
			line, pos := search.key(key, line)
			return line, pos, true
		}
		if key != '\t' {
			return "", 0, false
		}
		ctx, cancel := context.WithTimeout(ctx, completeWait)
		defer cancel()
		start, words, err := p.candidates(ctx, line, pos)
		if err != nil || len(words) == 0 || start > pos {
			return line, pos, true // the key is swallowed
		}
		typed := line[start:pos]
		sure := common(words)
		if len(words) == 1 && !strings.HasSuffix(sure, ":") {
			sure += " "
		}
		if len(sure) <= len(typed) {
			p.print(strings.Join(words, "  ") + "\n")
			return line, pos, true
		}
		return line[:start] + sure + line[pos:], start + len(sure), true
	}
}

// candidates are those of the scenario, and those of this package's own command.
func (p *Prompt) candidates(ctx context.Context, line string, pos int) (int, []string, error) {
	head := line[:pos]
	const own = "follow"
	if rest, ok := strings.CutPrefix(strings.TrimLeft(head, " "), own+" "); ok {
		nodes, err := p.s.Nodes(ctx)
		typed := rest[strings.LastIndexByte(rest, ' ')+1:]
		words := slices.DeleteFunc(append(nodes, "off"), func(w string) bool { return !strings.HasPrefix(w, typed) })
		return pos - len(typed), words, err
	}
	start, words, err := p.s.Complete(ctx, line, pos)
	if err == nil && strings.TrimSpace(head[:start]) == "" && strings.HasPrefix(own, head[start:]) {
		words = append(words, own)
		slices.Sort(words)
	}
	return start, words, err
}

// common is what all words begin with.
func common(words []string) string {
	prefix := words[0]
	for _, w := range words[1:] {
		for !strings.HasPrefix(w, prefix) {
			prefix = prefix[:len(prefix)-1]
		}
	}
	return prefix
}
