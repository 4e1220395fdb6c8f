package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"dsoftbus-rig/images"
	"dsoftbus-rig/rig/host"
	"dsoftbus-rig/rig/recording"
)

// triesToRecord is how often what failed is played again to be recorded; 0: it is not.
func (f *runFlags) triesToRecord() int {
	if f.record != recordFail {
		return 0
	}
	return f.recordTries
}

// recordings is suite.Config.Recording.
func (f *runFlags) recordings(runDir, source string, set *images.Set, h *host.Host, log func(string)) func(context.Context) (*recording.Machine, error) {
	if f.record == "" {
		return nil
	}
	return func(ctx context.Context) (*recording.Machine, error) {
		return prepareRecordings(ctx, runDir, source, set, h, log)
	}
}

// prepareRecordings puts what all recordings of a run need into its folder, and returns what they have in common.
func prepareRecordings(ctx context.Context, runDir, source string, set *images.Set, h *host.Host, log func(string)) (*recording.Machine, error) {
	debug, err := images.DebugBinary(ctx, images.Config{SourceDir: source, Log: log})
	if err != nil {
		return nil, err
	}
	if err := keep(debug, filepath.Join(runDir, recording.DebugFile)); err != nil {
		return nil, err
	}
	m := &recording.Machine{QEMU: h.QEMU, QEMUVersion: h.QEMUVersion}
	for _, image := range []struct {
		from, name string
		digest     *string
	}{{set.Kernel, recording.KernelFile, &m.Kernel}, {set.Initrd, recording.InitrdFile, &m.Initrd}} {
		to := filepath.Join(runDir, image.name)
		if err := keep(image.from, to); err != nil {
			return nil, err
		}
		if *image.digest, err = recording.Digest(to); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// keep makes a file that is there as long as the run's folder is, also where the cache that has it loses it: another name of it, where both are on one file system,
// else a copy.
func keep(from, to string) (err error) {
	if os.Link(from, to) == nil {
		return nil
	}
	in, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("keep for the replay: %w", err)
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return fmt.Errorf("keep for the replay: %w", err)
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, info.Mode().Perm())
	if err != nil {
		return fmt.Errorf("keep for the replay: %w", err)
	}
	_, err = io.Copy(out, in)
	if err = errors.Join(err, out.Close()); err != nil {
		return fmt.Errorf("keep %s for the replay: %w", from, err)
	}
	return nil
}
