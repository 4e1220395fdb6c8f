package suite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"dsoftbus-rig/rig/console"
	"dsoftbus-rig/rig/decode"
	"dsoftbus-rig/rig/locate"
	"dsoftbus-rig/rig/record"
)

// explainHeld is explain while the scenario stands still, and its capture goes
// on.
func (p *play) explainHeld(f *record.Failure) *record.Failure {
	ctx, cancel := context.WithTimeout(context.Background(), captureWait)
	defer cancel()
	p.capture.Sync(ctx)
	p.held = p.explain(f)
	return p.held
}

// captureWait bounds how long a prompt waits for the frames that explain a
// failure: what is in the file by then has to do.
const captureWait = 10 * time.Second

// explain gives a failure that comes of a session that was missing its true class, by what the nodes said and what crossed between them.
func (p *play) explain(f *record.Failure) *record.Failure {
	if f == nil || f == p.held || p.alive.world == nil {
		return f
	}
	scene := locate.Scene{
		Nodes: p.alive.world.Names(), End: p.failed,
		Lines: func(node string) []console.Line {
			log := p.alive.world.Log(node)
			return log.Lines(0, log.Len())
		},
		Packets: func() []decode.Packet {
			capture, err := decode.File(p.rec.Capture(), nil)
			if err == nil {
				return capture.Packets
			}
			if !errors.Is(err, fs.ErrNotExist) {
				p.tell(record.Event{Kind: record.KindWarning, Text: fmt.Sprintf("explain the failure: %v", err)})
			}
			return nil
		},
	}
	return p.locator.Explain(f, scene)
}

// noteFailure remembers when a step of the script failed: what comes afterwards
// has nothing to do with it.
func (p *play) noteFailure(e record.Event) {
	if e.Kind == record.KindStepEnd && e.Error != "" && !e.Ignored && !e.Typed {
		p.failed = time.Now()
	}
}
