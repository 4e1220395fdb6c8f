package suite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"dsoftbus-rig/images"
	"dsoftbus-rig/rig/host"
	"dsoftbus-rig/rig/lan"
	"dsoftbus-rig/rig/machine"
	"dsoftbus-rig/rig/record"
	"dsoftbus-rig/rig/worker"
)

// Config says what a suite runs on.
type Config struct {
	Items  []Item
	Host   *host.Host
	Images *images.Set
	Saved  machine.Saved // what nodes are cloned from; its zero value: every machine boots
	Run    *record.Run
}

// Run plays every scenario, each on fresh machines in a worker of its own, one
// after the other, until ctx ends. What happens goes to the record. Its error is
// of the record alone.
func Run(ctx context.Context, cfg Config) error {
	err := cfg.Run.Append(record.Event{Kind: record.KindRunStart, Total: len(cfg.Items), Host: cfg.Host.Record(cfg.Images)})
	for _, item := range cfg.Items {
		if ctx.Err() != nil {
			return err
		}
		err = errors.Join(err, runOne(ctx, cfg, item))
	}
	return err
}

// runOne plays one scenario. A worker that ends without a verdict gets one here.
func runOne(ctx context.Context, cfg Config, item Item) error {
	ended := false
	appendEvent := func(e record.Event) error {
		ended = ended || e.Kind == record.KindScenarioEnd
		return cfg.Run.Append(e)
	}
	giveUp := func(reason record.Reason, result record.Result, why error) error {
		e := broken(reason, result, why)
		e.Kind, e.Scenario = record.KindScenarioEnd, item.Name
		return appendEvent(e)
	}
	hardware := cfg.Host.Hardware(cfg.Images)
	hardware.Saved = cfg.Saved
	p, err := worker.Start(ctx, ScenarioJob, Job{
		Name: item.Name, File: item.File, RunDir: cfg.Run.Dir(), Slowdown: cfg.Host.Slowdown, Root: os.Geteuid() == 0,
		Hardware: hardware,
	})
	if err != nil {
		reason := record.Internal
		var lacking *lan.HostError
		if errors.As(err, &lacking) {
			reason = record.HostUnsupported
		}
		return giveUp(reason, record.Broken, err)
	}
	var recErr, garbled error
	events := record.NewReader(p.Out())
	for {
		e, err := events.Next()
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, record.ErrTruncated) {
				garbled = fmt.Errorf("the worker said something that is no event: %w", err)
				p.Kill()
			}
			_, _ = io.Copy(io.Discard, p.Out())
			break
		}
		recErr = errors.Join(recErr, appendEvent(e))
	}
	err = errors.Join(garbled, p.Wait())
	switch {
	case ended && err != nil:
		return errors.Join(recErr, cfg.Run.Append(record.Event{Kind: record.KindWarning, Scenario: item.Name, Text: err.Error()}))
	case ended:
		return recErr
	case ctx.Err() != nil:
		return errors.Join(recErr, giveUp(record.Stopped, record.Interrupted, context.Cause(ctx)))
	case err == nil:
		err = errors.New("the worker ended without a verdict")
	}
	return errors.Join(recErr, giveUp(record.WorkerDied, record.Broken, err))
}
