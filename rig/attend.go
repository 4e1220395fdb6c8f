package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"dsoftbus-rig/rig/console"
	"dsoftbus-rig/rig/live"
	"dsoftbus-rig/rig/prompt"
	"dsoftbus-rig/rig/record"
	"dsoftbus-rig/rig/report"
	"dsoftbus-rig/rig/scenario"

	"golang.org/x/term"
)

// moves are the commands of the prompt after which a scenario goes on.
var moves = []string{string(scenario.Continue), string(scenario.Retry), string(scenario.OneStep), string(scenario.Quit)}

// An attendant asks whoever started a run what to do where a scenario stands still. Without a terminal, and without lines on stdin, it says how
// another terminal can.
type attendant struct {
	ctx      context.Context
	out      io.Writer
	patience time.Duration
	terminal *prompt.Terminal // nil: stdin is none
	lines    *prompt.Lines    // nil: stdin is not asked
	color    bool
	history  *prompt.History
	progress *report.Progress // of the run that this process has; nil: it has none
	runName  string           // what that is called
	joined   *live.Client     // of a run that another process has; nil: none
	bare     bool             // there are only machines to try things on, and no script
	left     chan struct{}    // closed when who joined leaves

	mu      sync.Mutex
	over    chan struct{} // closed when the stand that is attended is over; nil: none is
	asking  sync.WaitGroup
	seat    sync.Mutex    // held while somebody is asked
	greeted string        // the last hint
	failed  error         // the first line of stdin that failed
	playing string        // the scenario that runs
	result  record.Result // of the last one that ended
}

// newAttendant returns one for this process's terminal. With lines a stdin that is no terminal is read, too.
func newAttendant(ctx context.Context, out io.Writer, patience time.Duration, lines bool) (*attendant, error) {
	a := &attendant{ctx: ctx, out: out, patience: patience, left: make(chan struct{}), color: report.Detect(os.Stdout, os.Getenv).Color}
	switch {
	case term.IsTerminal(int(os.Stdin.Fd())) && term.IsTerminal(int(os.Stdout.Fd())):
		a.terminal = prompt.NewTerminal(os.Stdin, os.Stdout)
		cache, err := cacheDir()
		if err != nil {
			return nil, err
		}
		a.history, err = prompt.LoadHistory(filepath.Join(cache, "history"))
		if err != nil {
			fmt.Fprintf(os.Stderr, "rig: warning: %v\n", err)
		}
	case lines:
		a.lines = prompt.NewLines(os.Stdin, out)
	}
	return a, nil
}

// event takes in an event of the run. It waits for nobody.
func (a *attendant) event(e record.Event) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch e.Kind {
	case record.KindScenarioStart:
		a.playing = e.Scenario
	case record.KindHeld:
		if a.over != nil {
			return // it was told already
		}
		over := make(chan struct{})
		a.over = over
		a.asking.Go(func() { a.ask(e, over) })
	case record.KindReleased, record.KindScenarioEnd:
		if e.Kind == record.KindScenarioEnd {
			a.playing, a.result = "", e.Result
		}
		if a.over != nil {
			close(a.over)
			a.over = nil
		}
	}
}

// ask asks what to do, until the scenario goes on.
func (a *attendant) ask(e record.Event, over <-chan struct{}) {
	// The prompt of the stand before may not have given the terminal back yet.
	a.seat.Lock()
	defer a.seat.Unlock()
	if a.progress != nil {
		a.progress.Flush()
	}
	if a.terminal == nil && a.lines == nil {
		a.say(fmt.Sprintf("it waits until %s (%s) for another terminal: `rig shell -run %s`, or `rig do -run %[3]s retry`, `continue`, `step` or `quit`",
			time.Now().Add(a.patience).Format(time.TimeOnly), a.patience, a.runName+"/"+e.Scenario))
		return
	}
	err := a.attend(e, over)
	if err != nil && !errors.Is(err, prompt.ErrOver) && a.ctx.Err() == nil {
		a.say(fmt.Sprintf("warning: nobody can be asked: %v", err))
	}
}

// say tells the person something.
func (a *attendant) say(text string) {
	text = console.Clean(text) // names and errors are another process's
	if a.progress != nil {
		a.progress.Print(text)
		return
	}
	fmt.Fprintln(a.out, text)
}

func (a *attendant) attend(e record.Event, over <-chan struct{}) error {
	ctx, client := a.ctx, a.joined
	if client == nil {
		var err error
		if client, err = mine(ctx, e.Scenario); err != nil {
			return err
		}
	} else if err := client.Do(ctx, "where", func(e record.Event) { show(a.out, e.Text) }); err != nil {
		return err
	}
	return a.run(ctx, client, a.greeting(e.Name), over)
}

// greeting says what can be done at a prompt, by why the script stands still.
func (a *attendant) greeting(why string) string {
	help, end := "`help` lists what else there is.", "`quit` or Ctrl-D"
	if a.joined != nil {
		help, end = help+" Ctrl-D leaves it as it stands.", "`quit`"
	}
	switch scenario.Why(why) {
	case scenario.WhyEnd:
		if a.bare {
			return "Type lines of the scenario language, such as `exec A hostname`; `help` lists them. " + end + " takes the machines down."
		}
		return "The script is over, and its machines are as it left them; " + end + " takes them down; " + help
	case scenario.WhyFailed, scenario.WhyInterrupted:
		return "`retry` runs the line again, `continue` leaves it out, " + end + " ends the script with it; " + help
	}
	return "`continue` goes on with this line, `step` runs it alone, " + end + " ends the script in front of it; " + help
}

// mine returns a scenario that this process plays.
func mine(ctx context.Context, name string) (*live.Client, error) {
	all, err := live.List(ctx)
	if err != nil {
		return nil, err
	}
	for _, alive := range all {
		if alive.PID == os.Getpid() && alive.Status.Scenario == name {
			return live.Open(alive.Name)
		}
	}
	return nil, fmt.Errorf("%s does not run any more", name)
}

// run is a prompt, on a scenario that stands still or on one that somebody else started.
func (a *attendant) run(ctx context.Context, client *live.Client, greeting string, over <-chan struct{}) error {
	// While somebody looks on, the scenario waits.
	watching, stop := context.WithCancel(ctx)
	defer stop()
	var following sync.WaitGroup
	defer following.Wait()
	following.Go(func() { _ = client.Follow(watching, func(record.Event) {}) })
	defer stop()

	names, err := client.Nodes(ctx)
	if err != nil {
		return err
	}
	o := prompt.Options{Text: promptText(names), Color: a.color, History: a.history, Moves: moves, Over: over}
	if a.terminal != nil {
		if greeting != a.greeted {
			fmt.Fprintln(a.out, greeting)
			a.greeted = greeting
		}
		err = prompt.Run(ctx, a.terminal, client, o)
		if a.history != nil {
			if err := a.history.Save(); err != nil {
				a.say(fmt.Sprintf("warning: %v", err))
			}
		}
	} else {
		err = prompt.RunLines(ctx, a.lines, client, o)
		if err != nil && !errors.Is(err, prompt.ErrOver) && ctx.Err() == nil {
			a.mu.Lock()
			a.failed = errors.Join(a.failed, errors.New("a line failed, so no further one was run"))
			a.mu.Unlock()
			err = nil
		}
	}
	if err != nil {
		return err
	}
	if a.joined != nil {
		a.say("it stands still for others; `quit` would have ended it")
		close(a.left)
		return nil
	}
	// Nobody types any more.
	return client.Do(ctx, string(scenario.Quit), func(record.Event) {})
}

func promptText(nodes []string) string {
	text := ""
	for i, name := range nodes {
		if i > 0 {
			text += "+"
		}
		text += console.Clean(name)
	}
	return text + "> "
}

// interrupt is what Ctrl-C does while a script runs: it has it stand still. It returns false where that is not possible.
func (a *attendant) interrupt() bool {
	a.mu.Lock()
	name, over := a.playing, a.over
	a.mu.Unlock()
	if name == "" || over != nil {
		return false
	}
	client, err := mine(a.ctx, name)
	return err == nil && client.Do(a.ctx, "interrupt", func(record.Event) {}) == nil
}

// wait returns when nobody is asked any more.
func (a *attendant) wait() error {
	a.mu.Lock()
	if a.over != nil {
		close(a.over)
		a.over = nil
	}
	a.mu.Unlock()
	a.asking.Wait()
	return a.failed
}
