package ownport

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// nobody is how a user looks who is none of this process's user namespace (/proc/sys/kernel/overflowuid).
const nobody = 65534

// tableReads is how often the kernel's tables are read for a connection. A read is no snapshot: it may miss a socket while others come and go beside it.
const tableReads = 5

// errNoOwner says that no process has the other end of a connection any more.
var errNoOwner = errors.New("no process has the other end any more")

// foreign returns why a connection is not one of this process's user, or "". Root is a user like others: only a rig of root's serves it.
func foreign(conn net.Conn) string {
	uid, err := owner(conn)
	switch {
	case errors.Is(err, errNoOwner):
		return "it ended at once, so its user is not known"
	case err != nil:
		return "its user is not known: " + err.Error()
	case uid == nobody || uid != os.Geteuid():
		return "it is another user's"
	}
	return ""
}

// owner returns the user id of a connection's other end, as this process's user namespace has it.
func owner(conn net.Conn) (int, error) {
	if u, ok := conn.(*net.UnixConn); ok {
		return UnixPeer(u)
	}
	local, err := netip.ParseAddrPort(conn.LocalAddr().String())
	if err != nil {
		return 0, err
	}
	remote, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil {
		return 0, err
	}
	for range tableReads {
		// A socket of IPv6 may be connected to an address of IPv4.
		for _, name := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
			table, err := os.ReadFile(name)
			if os.IsNotExist(err) { // a kernel without IPv6
				continue
			}
			if err != nil {
				return 0, err
			}
			// Seen from the other end what is remote here is local.
			if uid, ok := find(table, remote, local); ok {
				return uid, nil
			}
		}
	}
	return 0, errNoOwner
}

// find returns the user id of the socket with these addresses in a table that has the form of /proc/net/tcp or tcp6. A socket that no process has, since it was
// closed, has no inode, and most kernels call it root's: it is not found.
func find(table []byte, local, remote netip.AddrPort) (uid int, ok bool) {
	local, remote = unmapped(local), unmapped(remote)
	lines := bufio.NewScanner(bytes.NewReader(table))
	for lines.Scan() {
		// sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode …
		fields := strings.Fields(lines.Text())
		if len(fields) < 10 || fields[9] == "0" {
			continue
		}
		l, err := tableAddr(fields[1])
		if err != nil || l != local {
			continue
		}
		if r, err := tableAddr(fields[2]); err != nil || r != remote {
			continue
		}
		if uid, err := strconv.ParseUint(fields[7], 10, 32); err == nil {
			return int(uid), true
		}
	}
	return 0, false
}

// tableAddr reads an address of the kernel's tables: words of 32 bits in the host's byte order, and a port, all in hexadecimal digits.
func tableAddr(text string) (netip.AddrPort, error) {
	words, port, _ := strings.Cut(text, ":")
	ip, err := hex.DecodeString(words)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if len(ip) != 4 && len(ip) != 16 {
		return netip.AddrPort{}, fmt.Errorf("%q is no address", text)
	}
	for w := ip; len(w) > 0; w = w[4:] {
		binary.NativeEndian.PutUint32(w, binary.BigEndian.Uint32(w))
	}
	n, err := strconv.ParseUint(port, 16, 16)
	if err != nil {
		return netip.AddrPort{}, err
	}
	addr, _ := netip.AddrFromSlice(ip) // of a length that was looked at
	return unmapped(netip.AddrPortFrom(addr, uint16(n))), nil
}

func unmapped(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// UnixPeer returns the user id of a connection's other end, as this process's user
// namespace has it: of a client the one that it connected with, of a server the one
// that made the socket.
func UnixPeer(conn *net.UnixConn) (int, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var (
		cred  *unix.Ucred
		cause error
	)
	if err := raw.Control(func(fd uintptr) { cred, cause = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return 0, err
	}
	if cause != nil {
		return 0, os.NewSyscallError("getsockopt", cause)
	}
	return int(cred.Uid), nil
}
