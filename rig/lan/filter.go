package lan

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// ErrNoFilters says that the kernel lacks what stops frames: nftables in the bridge family. It comes in a *HostError that names what is missing.
var ErrNoFilters = errors.New("the kernel cannot filter frames on a bridge")

// Drops are frames that a fault kept from crossing. A frame for many is copied by the bridge, and each copy that is stopped counts.
type Drops struct {
	Frames uint64
	Bytes  uint64 // with Ethernet headers
}

// CableDrops are what a pulled cable kept from crossing.
type CableDrops struct {
	Sent     Drops // what the node put on the network
	Received Drops // what the network had for the node
}

// A Block names the frames from one port to another. The other direction is another block.
type Block struct {
	From, To string // names of ports

	// Proto is "" for every frame, whatever is in it (ARP, too), or "tcp" or "udp" for those of IPv4 and IPv6. A datagram in fragments is
	// blocked by its first one, which alone has the port.
	Proto string
	Port  uint16 // of either end, so that a block has requests to a service or the answers of one; 0 is any, and all that Proto "" can have

	// First is how many of these frames are dropped: those that come next. 0 is all. It is no part of a block's identity: one with another First
	// takes the place of the former, and is the same to Unblock.
	First uint32
}

func (b Block) String() string {
	s := b.From + " -> " + b.To
	if b.Proto != "" {
		s += " " + b.Proto
	}
	if b.Port != 0 {
		s += fmt.Sprint(" ", b.Port)
	}
	return s
}

func (b Block) check(ports map[string]*Port) error {
	for _, name := range []string{b.From, b.To} {
		if ports[name] == nil {
			return fmt.Errorf("there is no port %q", name)
		}
	}
	switch {
	case b.From == b.To:
		return errors.New("no frame goes from a port to itself")
	case b.Proto != "" && protocols[b.Proto] == 0:
		return fmt.Errorf("unknown protocol %q: \"tcp\", \"udp\" or \"\"", b.Proto)
	case b.Proto == "" && b.Port != 0:
		return fmt.Errorf("port %d without a protocol", b.Port)
	}
	return nil
}

var protocols = map[string]byte{"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP}

// SetCable pulls the cable of a port (up false), so that no frame gets in or out, not to the rig either, or plugs it in again. It returns what was
// dropped since it was pulled. To pull a pulled cable, or to plug in one that is not, changes nothing.
//
// The machine's card sees a carrier all the same: the tap's is the host's side alone, and what the machine sees is QEMU's to say (set_link).
func (p *Port) SetCable(up bool) (CableDrops, error) {
	l := p.lan
	l.mu.Lock()
	defer l.mu.Unlock()
	what := "pull the cable of port " + p.name
	if up {
		what = "plug in the cable of port " + p.name
	}
	fail := func(err error) error { return fmt.Errorf("%s: %w", what, explainNetlink(err)) }
	if l.closed {
		return CableDrops{}, fail(os.ErrClosed)
	}
	f := l.filters[cableKey(p.name)]
	var err error
	switch {
	case f == nil && up:
		return CableDrops{}, nil
	case f == nil:
		_, err = l.setFilter(cableKey(p.name), cableStops(p.name))
		if err != nil {
			err = fail(err)
		}
		return CableDrops{}, err
	case up:
		drops, err := l.clearFilters(cableKey(p.name))
		if err != nil {
			err = fail(err)
		}
		return cableDrops(drops[cableKey(p.name)]), err
	}
	counts, err := counters()
	if err != nil {
		return CableDrops{}, fail(err)
	}
	return cableDrops(f.drops(counts)), nil
}

func cableDrops(d []Drops) CableDrops {
	if len(d) != 2 {
		return CableDrops{}
	}
	return CableDrops{Sent: d[0], Received: d[1]}
}

// Block drops frames that go from one port to another. When the same block is in force it is replaced, counts anew, and what the former one dropped
// is returned.
func (l *LAN) Block(b Block) (replaced Drops, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return Drops{}, fmt.Errorf("block %s: %w", b, os.ErrClosed)
	}
	if err := b.check(l.ports); err != nil {
		return Drops{}, fmt.Errorf("block %s: %w", b, err)
	}
	drops, err := l.setFilter(blockKey(b), []stop{b.stop()})
	if f := l.filters[blockKey(b)]; f != nil && err == nil {
		f.first = b.First
	}
	if err != nil {
		err = fmt.Errorf("block %s: %w", b, explainNetlink(err))
	}
	return first(drops), err
}

// Unblock lets frames pass again and returns how many the block has dropped. That there is no such block is an error.
func (l *LAN) Unblock(b Block) (Drops, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return Drops{}, fmt.Errorf("unblock %s: %w", b, os.ErrClosed)
	}
	if l.filters[blockKey(b)] == nil {
		return Drops{}, fmt.Errorf("unblock %s: it is not blocked", b)
	}
	drops, err := l.clearFilters(blockKey(b))
	if err != nil {
		err = fmt.Errorf("unblock %s: %w", b, explainNetlink(err))
	}
	return first(drops[blockKey(b)]), err
}

// Partition drops every frame: none crosses between ports, nor between a port and the rig. Heal ends it. To do it again changes nothing.
func (l *LAN) Partition() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return fmt.Errorf("partition: %w", os.ErrClosed)
	}
	if l.filters[partitionKey] != nil {
		return nil
	}
	_, err := l.setFilter(partitionKey, []stop{
		{name: "partition-ports", hook: nftables.ChainHookPrerouting},
		{name: "partition-rig", hook: nftables.ChainHookPostrouting}, // nothing of a port's comes this far
	})
	if err != nil {
		return fmt.Errorf("partition: %w", explainNetlink(err))
	}
	return nil
}

// EndPartition lets frames cross again and returns how many did not. Without a partition it does nothing.
func (l *LAN) EndPartition() (Drops, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return Drops{}, fmt.Errorf("end the partition: %w", os.ErrClosed)
	}
	if l.filters[partitionKey] == nil {
		return Drops{}, nil
	}
	drops, err := l.clearFilters(partitionKey)
	if err != nil {
		err = fmt.Errorf("end the partition: %w", explainNetlink(err))
	}
	return total(drops[partitionKey]), err
}

func total(drops []Drops) (all Drops) {
	for _, d := range drops {
		all.Frames += d.Frames
		all.Bytes += d.Bytes
	}
	return all
}

// A filterKey says which fault a filter is.
type filterKey struct {
	kind  string // "cable", "block", "partition"
	port  string // of "cable"
	block Block  // of "block", without First
}

var partitionKey = filterKey{kind: "partition"}

func cableKey(port string) filterKey { return filterKey{kind: "cable", port: port} }

func blockKey(b Block) filterKey {
	b.First = 0
	return filterKey{kind: "block", block: b}
}

// A stop is one place where frames are dropped.
type stop struct {
	name  string
	hook  *nftables.ChainHook
	spare []expr.Any // frames that pass although they match; none: no frame
	match []expr.Any // none: every frame
}

func cableStops(port string) []stop {
	return []stop{
		// Before the bridge learns from a frame where its sender is, as if it had never come.
		{name: "cable-out-" + port, hook: nftables.ChainHookPrerouting, match: matchName(expr.MetaKeyIIFNAME, port)},
		// Behind forwarding: the rig's own frames come by here, too.
		{name: "cable-in-" + port, hook: nftables.ChainHookPostrouting, match: matchName(expr.MetaKeyOIFNAME, port)},
	}
}

func matchName(key expr.MetaKey, name string) []expr.Any {
	padded := make([]byte, unix.IFNAMSIZ)
	copy(padded, name)
	return []expr.Any{
		&expr.Meta{Key: key, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: padded},
	}
}

// stop is where the block's frames are dropped. A rule has no "or": that one of two ports is the block's is said as that frames pass of which neither is.
func (b Block) stop() stop {
	s := stop{name: "block-" + b.From + "-" + b.To, hook: nftables.ChainHookForward}
	s.match = append(matchName(expr.MetaKeyIIFNAME, b.From), matchName(expr.MetaKeyOIFNAME, b.To)...)
	if b.Proto != "" {
		s.match = append(s.match,
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{protocols[b.Proto]}})
	}
	if b.Port != 0 {
		// A later piece of a datagram has no ports: a rule that loads from its transport header does not match, and it passes. But for
		// loads of 1, 2 or 4 bytes kernels take a shorter way, which does not know of pieces.
		s.match = append(s.match, loadPorts(sourcePort, 3))
		port := binary.BigEndian.AppendUint16(nil, b.Port)
		for _, offset := range []uint32{sourcePort, destinationPort} {
			s.spare = append(s.spare, loadPorts(offset, 2), &expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: port})
		}
	}
	if b.First != 0 {
		s.match = append(s.match, matchFirst(b.First)...)
	}
	return s
}

// Where ports are in the headers of TCP and UDP alike.
const (
	sourcePort      = 0
	destinationPort = 2
)

func loadPorts(offset, length uint32) *expr.Payload {
	return &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: length}
}

// matchFirst numbers the frames that come this far from 0 on and matches the first n. (A quota would count bytes, a limit time.)
func matchFirst(n uint32) []expr.Any {
	const modulus = 1<<32 - 1 // the most there is: numbers begin again after so many frames
	return []expr.Any{
		&expr.Numgen{Register: 1, Modulus: modulus, Type: unix.NFT_NG_INCREMENTAL},
		// Registers are compared as bytes.
		&expr.Byteorder{SourceRegister: 1, DestRegister: 1, Op: expr.ByteorderHton, Len: 4, Size: 4},
		&expr.Cmp{Op: expr.CmpOpLt, Register: 1, Data: binary.BigEndian.AppendUint32(nil, n)},
	}
}

// table is the rig's own, in its namespace, and there as long as a filter is.
var table = &nftables.Table{Family: nftables.TableFamilyBridge, Name: "rig"}

// A filter is a fault as nftables has it: for each stop a chain, and a counter, both of that name. The counter is an object of its own,
// so that it can be read when the chain is gone and nothing counts any more.
type filter struct {
	names []string
	first uint32 // Block.First
}

func (f *filter) drops(counts map[string]Drops) []Drops {
	drops := make([]Drops, len(f.names))
	for i, name := range f.names {
		drops[i] = counts[name]
	}
	return drops
}

// batch makes changes that happen at once, or not at all. A connection for each: what is left unread after an error cannot reach the next.
func batch(fill func(c *nftables.Conn)) error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	fill(c)
	return c.Flush()
}

// setFilter puts a filter in force, in place of that with the same key, whose drops it returns, one for each stop.
func (l *LAN) setFilter(key filterKey, stops []stop) ([]Drops, error) {
	old := l.filters[key]
	f := &filter{}
	err := batch(func(c *nftables.Conn) {
		c.AddTable(table)
		for _, s := range stops {
			l.made++ // names are unique: chains of the old filter and the new are there at the same time
			name := fmt.Sprint(s.name, "-", l.made)
			f.names = append(f.names, name)
			addStop(c, table, name, s)
		}
		deleteChains(c, old)
	})
	if err != nil {
		return nil, explainFilters(err)
	}
	if l.filters == nil {
		l.filters = make(map[filterKey]*filter)
		l.undo("delete filters", func() error {
			return batch(func(c *nftables.Conn) {
				c.AddTable(table) // to delete what is not there is an error
				c.DelTable(table)
			})
		})
	}
	l.filters[key] = f
	if old == nil {
		return nil, nil
	}
	drops, err := finish(old)
	if err != nil {
		return nil, err
	}
	return drops[0], nil
}

func addStop(c *nftables.Conn, t *nftables.Table, name string, s stop) {
	c.AddObj(&nftables.CounterObj{Table: t, Name: name})
	chain := c.AddChain(&nftables.Chain{
		Table: t, Name: name, Type: nftables.ChainTypeFilter, Hooknum: s.hook, Priority: nftables.ChainPriorityFilter,
	})
	if s.spare != nil {
		// For this chain only: others see the frame all the same.
		c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: append(s.spare[:len(s.spare):len(s.spare)], &expr.Verdict{Kind: expr.VerdictAccept})})
	}
	c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: append(s.match[:len(s.match):len(s.match)],
		&expr.Objref{Type: int(nftables.ObjTypeCounter), Name: name},
		&expr.Verdict{Kind: expr.VerdictDrop},
	)})
}

func deleteChains(c *nftables.Conn, filters ...*filter) {
	for _, f := range filters {
		if f == nil {
			continue
		}
		for _, name := range f.names {
			chain := &nftables.Chain{Table: table, Name: name}
			c.FlushChain(chain)
			c.DelChain(chain)
		}
	}
}

// finish reads the counters of filters whose chains are gone, and deletes them.
func finish(filters ...*filter) ([][]Drops, error) {
	counts, err := counters()
	if err != nil {
		return make([][]Drops, len(filters)), err
	}
	drops := make([][]Drops, len(filters))
	err = batch(func(c *nftables.Conn) {
		for i, f := range filters {
			drops[i] = f.drops(counts)
			for _, name := range f.names {
				c.DeleteObject(&nftables.CounterObj{Table: table, Name: name})
			}
		}
	})
	if err != nil {
		err = fmt.Errorf("delete counters: %w", err)
	}
	return drops, err
}

// clearFilters lets frames pass again, for all these filters at once, and returns what each dropped until then.
func (l *LAN) clearFilters(keys ...filterKey) (map[filterKey][]Drops, error) {
	var filters []*filter
	for _, key := range keys {
		filters = append(filters, l.filters[key])
	}
	if len(filters) == 0 {
		return nil, nil
	}
	if err := batch(func(c *nftables.Conn) { deleteChains(c, filters...) }); err != nil {
		return nil, fmt.Errorf("delete filters: %w", err)
	}
	list, err := finish(filters...)
	drops := make(map[filterKey][]Drops)
	for i, key := range keys {
		drops[key] = list[i]
		delete(l.filters, key)
	}
	if len(l.filters) == 0 {
		err = errors.Join(err, batch(func(c *nftables.Conn) { c.DelTable(table) }))
	}
	return drops, err
}

// counters reads all counters of the table at once, by name.
func counters() (map[string]Drops, error) {
	c, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("read counters: %w", err)
	}
	objects, err := c.GetObjects(table)
	if err != nil {
		return nil, fmt.Errorf("read counters: %w", err)
	}
	counts := make(map[string]Drops)
	for _, o := range objects {
		if n, ok := o.(*nftables.CounterObj); ok {
			counts[n.Name] = withHeaders(n.Packets, n.Bytes)
		}
	}
	return counts, nil
}

// withHeaders adds what the kernel leaves out when it counts in the middle of its way: it has taken the Ethernet header off there.
func withHeaders(frames, bytes uint64) Drops {
	return Drops{Frames: frames, Bytes: bytes + frames*ethernetHeader}
}

const ethernetHeader = 14

func first(d []Drops) Drops {
	if len(d) == 0 {
		return Drops{}
	}
	return d[0]
}

// ProbeFilters tells whether the kernel can filter frames as SetCable, Block and Partition do, by making such filters in the current namespace, in a
// table of their own, and taking them away again. What is missing is named in a *HostError that is ErrNoFilters.
func ProbeFilters() error {
	probe := &nftables.Table{Family: nftables.TableFamilyBridge, Name: "rig-probe"}
	if err := batch(func(c *nftables.Conn) { c.AddTable(probe) }); err != nil {
		return noFilters("nftables in the bridge family", "nf_tables", err)
	}
	for i, p := range filterParts {
		err := batch(func(c *nftables.Conn) { addStop(c, probe, fmt.Sprint("probe", i), p.stop) })
		if err != nil {
			return errors.Join(
				noFilters(p.what, p.modules, err),
				batch(func(c *nftables.Conn) { c.DelTable(probe) }),
			)
		}
	}
	if err := batch(func(c *nftables.Conn) { c.DelTable(probe) }); err != nil {
		return fmt.Errorf("probe filters: delete their table: %w", err)
	}
	return nil
}

// filterParts are what filters are made of, each with all that those before it have.
var filterParts = []struct {
	what, modules string
	stop          stop
}{
	{"chains and named counters in nftables", "nf_tables nft_counter nft_objref", stop{hook: nftables.ChainHookForward}},
	{"chains before a bridge in nftables", "nf_tables", stop{hook: nftables.ChainHookPrerouting}},
	{"matching of a bridge's ports in nftables", "nft_meta_bridge", stop{hook: nftables.ChainHookPostrouting, match: matchName(expr.MetaKeyOIFNAME, "a")}},
	{"matching of protocols in nftables", "nf_tables", Block{From: "a", To: "b", Proto: "tcp", Port: 1}.stop()},
	{"counting of matches in nftables", "nft_numgen", stop{hook: nftables.ChainHookForward, match: matchFirst(1)}},
}

func noFilters(what, modules string, err error) error {
	if errors.Is(err, unix.EPERM) {
		return explainNetlink(err)
	}
	return &HostError{Problem: "this kernel has no " + what, Next: "load it: `modprobe -a " + modules + "`, or use a kernel that has it", Err: lack{ErrNoFilters, err}}
}

// explainFilters finds out what is missing when the kernel's answer is one that it has for something unknown.
func explainFilters(err error) error {
	for _, unknown := range []error{unix.ENOENT, unix.EOPNOTSUPP, unix.EAFNOSUPPORT, unix.EPROTONOSUPPORT, unix.EINVAL} {
		if errors.Is(err, unknown) {
			if perr := ProbeFilters(); errors.Is(perr, ErrNoFilters) {
				return perr
			}
		}
	}
	return err
}

// A lack is the system's error for something that the kernel does not have.
type lack struct{ sentinel, err error }

func (e lack) Error() string   { return e.err.Error() }
func (e lack) Unwrap() []error { return []error{e.sentinel, e.err} }
