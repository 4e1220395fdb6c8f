//go:build !amd64

package fwcfg

// openPorts fails: the device is reached in another way on other processors, and
// the rig's machines are all of this kind.
func openPorts() (ports, error) { return nil, ErrNoDevice }
