package scenario

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"
)

// A Registry holds the commands of the language, each described once: its usage,
// help, completion and checks all come from that description.
type Registry struct {
	commands map[string]*command
	names    []string // in the order of the documentation
	areas    []area   // in that order, too
}

// An area is a group of commands, as help has them.
type area struct {
	title string
	names []string
}

// Commands returns the commands of the language.
func Commands() *Registry {
	r := &Registry{commands: map[string]*command{}}
	r.add("Nodes and their programs", nodeCommands())
	r.add("What nodes print", markerCommands())
	r.add("Power", powerCommands())
	r.add("Faults of network and clock", faultCommands())
	r.add("The rig itself on the network", wireCommands())
	r.add("Output", textCommands())
	r.add("Files", fileCommands())
	r.add("The script", flowCommands())
	return r
}

// add adds the commands of an area.
func (r *Registry) add(title string, commands []command) {
	a := area{title: title}
	for _, cmd := range commands {
		r.commands[cmd.name] = &cmd
		a.names = append(a.names, cmd.name)
	}
	r.names = append(r.names, a.names...)
	r.areas = append(r.areas, a)
}

// Names returns the names of all commands, sorted.
func (r *Registry) Names() []string {
	return slices.Sorted(maps.Keys(r.commands))
}

// A command is the description of one command.
type command struct {
	name    string
	summary string // half a sentence, lower case
	detail  string // paragraphs for `help`, without line breaks inside; may be empty
	forms   []form // told apart by flags and the number of arguments

	prefixes   string // which of '!', '?' and '*' make sense in front of it
	inverts    bool   // run handles '!' itself
	background bool   // may run in the background
	output     bool   // leaves stdout and stderr
	prompt     bool   // belongs to the prompt, not to the language
	// acts says that the command changes what nodes or the network were doing: a `marker` behind it is about what comes of that. One that
	// begins something new (up, start) does not: what was begun before may be waited for all the same.
	acts     bool
	idle     bool // proves nothing: it cannot fail because of what nodes do
	deadline deadlineClass
	more     func(c *call) time.Duration // what the arguments add to the default deadline; may be nil

	check func(k *checker, st *Statement, b *binding) // checks beyond the kinds, and what the command changes for later ones; may be nil
	run   func(ctx context.Context, c *call) error
}

// A form is one way to write a command.
type form struct {
	flags []flag
	args  []argument
}

// A flag is an option in front of the arguments: -name, -name value, -name=value.
type flag struct {
	name    string
	value   string // what the usage calls its value; empty for a switch
	kind    *kind  // of the value
	must    bool   // the form has to have it
	summary string
}

// An argument is a place for one word, or for any number of them.
type argument struct {
	name     string
	kind     *kind
	optional bool // may be missing
	repeat   bool // may be there several times
}

// A deadlineClass says which default deadline a command has.
type deadlineClass int

const (
	noDeadline   deadlineClass = iota // does not wait
	waitDeadline                      // the run's default for waits
	execDeadline                      // the run's default for programs
	bootDeadline                      // the run's default for machines
	jobDeadline                       // none of its own: what it waits for has one
)

// within is the flag of every command that waits.
var within = flag{name: "within", value: "D", kind: duration, summary: "deadline instead of the run's default"}

// A binding is a statement's words put in the places of a command.
type binding struct {
	command *command
	form    int
	flags   map[string]word // a switch has an empty word
	args    []boundWord
}

type boundWord struct {
	argument *argument
	word     word
}

// all returns the words of the arguments with the given name.
func (b *binding) all(name string) []word {
	var out []word
	for _, a := range b.args {
		if a.argument.name == name {
			out = append(out, a.word)
		}
	}
	return out
}

// bind puts words in the places of a command.
func (cmd *command) bind(words []word) (*binding, *fault) {
	b := &binding{command: cmd, flags: map[string]word{}}
	rest, f := b.takeFlags(words)
	if f != nil {
		return nil, f
	}
	few, together := true, false
	for i := range cmd.forms {
		fm := &cmd.forms[i]
		if !fm.takes(b.flags) {
			continue
		}
		together = true
		least, most := fm.size()
		if len(rest) > most && most >= 0 {
			few = false
		} else if len(rest) >= least {
			b.form = i
			b.args = fm.place(rest)
			return b, nil
		}
	}
	usage := "usage: " + cmd.usage()
	switch {
	case !together:
		return nil, faultf(usage, "%s: these flags do not go together", cmd.name)
	case few:
		return nil, faultf(usage, "%s: too few arguments", cmd.name)
	case slices.ContainsFunc(rest, func(w word) bool { name, _, ok := flagName(w); return ok && cmd.flag(name) != nil }):
		return nil, faultf(usage, "%s: too many arguments: flags go in front of the others", cmd.name)
	}
	return nil, faultf(usage+" (an argument with spaces goes in '...')", "%s: too many arguments", cmd.name)
}

// takeFlags reads the flags in front and returns the words behind them.
func (b *binding) takeFlags(words []word) ([]word, *fault) {
	for len(words) > 0 {
		name, value, ok := flagName(words[0])
		if !ok {
			break
		}
		words = words[1:]
		if name == "-" {
			break
		}
		fl := b.command.flag(name)
		if fl == nil {
			next := didYouMean("-"+name, b.command.flagNames())
			if next == "" {
				next = "usage: " + b.command.usage()
			}
			return nil, faultf(next, "%s: unknown flag -%s", b.command.name, name)
		}
		if _, twice := b.flags[name]; twice {
			return nil, faultf("leave one out", "%s: flag -%s is there twice", b.command.name, name)
		}
		switch {
		case fl.kind == nil && value != nil:
			return nil, faultf("write -"+name+" alone", "%s: flag -%s takes no value", b.command.name, name)
		case fl.kind == nil:
			b.flags[name] = word{}
		case value != nil:
			b.flags[name] = *value
		case len(words) == 0:
			return nil, faultf("usage: "+b.command.usage(), "%s: flag -%s needs a value", b.command.name, name)
		default:
			b.flags[name] = words[0]
			words = words[1:]
		}
	}
	return words, nil
}

// flagName splits a word that is a flag into its name and the value behind '=', if
// that is there. A word that begins with a quote or a variable is no flag. The
// word '--', which ends the flags, has the name "-".
func flagName(w word) (name string, value *word, ok bool) {
	if len(w.parts) == 0 || w.parts[0].quoted || w.parts[0].variable {
		return "", nil, false
	}
	text := w.parts[0].text
	if len(text) < 2 || text[0] != '-' {
		return "", nil, false
	}
	for i := range text {
		if text[i] == '=' {
			v := word{start: w.start + i + 1, end: w.end}
			if i+1 < len(text) {
				v.parts = append(v.parts, part{text: text[i+1:]})
			}
			v.parts = append(v.parts, w.parts[1:]...)
			return text[1:i], &v, true
		}
	}
	return text[1:], nil, true
}

// flag returns the flag with that name in any form, or nil.
func (cmd *command) flag(name string) *flag {
	for i := range cmd.forms {
		if fl := cmd.forms[i].flag(name); fl != nil {
			return fl
		}
	}
	return nil
}

func (cmd *command) flagNames() []string {
	var out []string
	for _, fm := range cmd.forms {
		for _, fl := range fm.flags {
			if !slices.Contains(out, "-"+fl.name) {
				out = append(out, "-"+fl.name)
			}
		}
	}
	return out
}

func (fm *form) flag(name string) *flag {
	for i := range fm.flags {
		if fm.flags[i].name == name {
			return &fm.flags[i]
		}
	}
	return nil
}

// takes reports whether the form has all of the flags, and they all it needs.
func (fm *form) takes(flags map[string]word) bool {
	for name := range flags {
		if fm.flag(name) == nil {
			return false
		}
	}
	for _, fl := range fm.flags {
		if _, there := flags[fl.name]; fl.must && !there {
			return false
		}
	}
	return true
}

// size returns how many arguments the form takes; most is -1 without a limit.
func (fm *form) size() (least, most int) {
	for _, a := range fm.args {
		if !a.optional {
			least++
		}
		if a.repeat {
			most = -1
		} else if most >= 0 {
			most++
		}
	}
	return least, most
}

// place gives every word its argument. There are enough words, and not too many.
func (fm *form) place(words []word) []boundWord {
	out := make([]boundWord, len(words))
	for i := range words {
		out[i] = boundWord{argument: fm.at(i, len(words)), word: words[i]}
	}
	return out
}

// at returns the argument for the word with index i of n, or nil if there is none:
// those behind an argument that repeats are counted from the end.
func (fm *form) at(i, n int) *argument {
	for j := range fm.args {
		a := &fm.args[j]
		if a.repeat {
			after := len(fm.args) - 1 - j
			if i >= n-after {
				return &fm.args[len(fm.args)-(n-i)]
			}
			return a
		}
		if i == j {
			return a
		}
	}
	return nil
}

func (r *Registry) unknown(name string) *fault {
	next := didYouMean(name, r.Names())
	for _, prefix := range []string{"!", "?", "*"} {
		if len(name) > 1 && name[:1] == prefix {
			next = fmt.Sprintf("put a space behind '%s'", prefix)
		}
	}
	if next == "" {
		next = "`help` lists the commands"
	}
	return faultf(next, "unknown command %q", name)
}
