// Standin takes the agent's place in a machine that is booted to see whether the
// images are in order: it loads the modules, looks around, and switches off.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

func main() {
	console, err := os.OpenFile("/dev/console", os.O_WRONLY, 0)
	if err != nil {
		panic(err)
	}
	say := func(format string, args ...any) { fmt.Fprintf(console, "standin: "+format+"\n", args...) }
	order, err := os.ReadFile("/lib/rig/modules/order")
	if err != nil {
		say("%v", err)
	}
	for _, file := range strings.Fields(string(order)) {
		load(say, file)
	}
	optional, err := os.ReadFile("/lib/rig/modules/optional")
	if err != nil {
		say("%v", err)
	}
	for line := range strings.Lines(string(optional)) {
		words := strings.Fields(line)
		for _, file := range words[1:] {
			load(say, file)
		}
		if _, err := os.Stat("/sys/module/" + words[0]); err != nil {
			say("optional module %s is not there after loading %s: %v", words[0], words[1:], err)
		}
	}
	devices, err := filepath.Glob("/sys/bus/virtio/devices/*/driver")
	if err != nil {
		say("%v", err)
	}
	for _, d := range devices {
		driver, err := os.Readlink(d)
		say("driver %s %v", filepath.Base(driver), err)
	}
	for _, c := range [][]string{{"uname", "-r"}, {"gosh", "-c", "echo shell $((6 * 7))"}, {"ls", "/bin"}, {"nothing-such"}} {
		out, err := exec.Command(c[0], c[1:]...).CombinedOutput()
		say("%s: %q %v", c[0], out, err)
	}
	if args := os.Args[1:]; len(args) > 0 {
		say("args %q", args)
	}
	say("end")
	// What was written must leave the serial port before the machine goes.
	unix.IoctlSetInt(int(console.Fd()), unix.TCSBRK, 1)
	unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
}

func load(say func(string, ...any), file string) {
	f, err := os.Open("/lib/rig/modules/" + file)
	if err == nil {
		defer f.Close()
		err = unix.FinitModule(int(f.Fd()), "", 0)
	}
	if err != nil && err != unix.EEXIST {
		say("load %s: %v", file, err)
	}
}
