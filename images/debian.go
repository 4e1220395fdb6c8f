package images

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
)

// errNoKernelPackage is what an error is that leaves the host's own kernel as the
// last resort: there is no such package here, or it could not be downloaded.
var errNoKernelPackage = errors.New("no kernel package")

// A distribution is one whose kernel packages are known here.
type distribution struct {
	id      string // of os-release
	version string // its version, as far as os-release says
	meta    string // the package that depends on the newest kernel for virtual machines

	// wanted matches the packages, among those that a wanted one depends on,
	// that hold the kernel and its modules.
	wanted *regexp.Regexp
}

// readDistribution tells which distribution the host is from its os-release.
func readDistribution(osRelease string) (distribution, error) {
	text, err := os.ReadFile(osRelease)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return distribution{}, err
	}
	v := map[string]string{}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		v[name] = strings.Trim(value, `"'`)
	}
	like := append([]string{v["ID"]}, strings.Fields(v["ID_LIKE"])...)
	d := distribution{id: v["ID"], version: v["VERSION_ID"]}
	if d.version == "" {
		d.version = v["VERSION_CODENAME"]
	}
	switch {
	// Ubuntu is like Debian, so it comes first.
	case slices.Contains(like, "ubuntu"):
		d.meta = "linux-image-virtual"
		d.wanted = regexp.MustCompile(`^linux-(image|modules)-[0-9]`)
	case slices.Contains(like, "debian"):
		d.meta = "linux-image-cloud-amd64"
		d.wanted = regexp.MustCompile(`^linux-image-[0-9]`)
	default:
		return distribution{}, fmt.Errorf("%w: the kernel packages of this distribution (%q in %s) are not known here", errNoKernelPackage, v["ID"], osRelease)
	}
	return d, nil
}

// kernelPackages returns the entry with the packages of the distribution's
// kernel. Once there, apt is not asked again, not even for a newer kernel:
// removing the entry's folder makes it look anew.
func kernelPackages(ctx context.Context, c *cache, osRelease string) (entry, error) {
	d, err := readDistribution(osRelease)
	if err != nil {
		return entry{}, err
	}
	return c.get(ctx, layer{
		name:  "packages",
		doing: "downloading the kernel package behind " + d.meta,
		inputs: func() ([]Input, error) {
			return []Input{{"distribution", d.id}, {"version", d.version}, {"package", d.meta}}, nil
		},
		build: func(ctx context.Context, dir string) (result, error) {
			source, err := downloadKernel(ctx, c, d, dir)
			if err != nil {
				return result{}, err
			}
			return result{facts: map[string]string{factSource: source}}, nil
		},
	})
}

// downloadKernel downloads the kernel's packages to dir. It first relies on the
// package lists that the host has. Where these are missing or name a version that
// is gone, it fetches lists of its own, which needs no rights and leaves the
// host's alone.
func downloadKernel(ctx context.Context, c *cache, d distribution, dir string) (string, error) {
	source, err := apt{}.download(ctx, d, dir)
	if aptFailed(err) && !errors.Is(err, exec.ErrNotFound) {
		c.log("kernel: apt cannot provide it with the package lists it has; fetching fresh ones into the cache")
		source, err = downloadAfresh(ctx, c, d, dir)
	}
	if aptFailed(err) {
		return "", fmt.Errorf("%w: %w\ncheck the network and apt's sources (apt-get update), or give a kernel with -kernel FILE -modules DIR", errNoKernelPackage, err)
	}
	return source, err
}

// downloadAfresh downloads the kernel's packages by package lists fetched for
// that alone.
func downloadAfresh(ctx context.Context, c *cache, d distribution, dir string) (source string, err error) {
	state, err := os.MkdirTemp(c.dir, tempPrefix)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(state)) }()
	a := apt{state: state}
	// A source that has nothing to do with the kernel may be out of order.
	updateErr := a.update(ctx)
	source, err = a.download(ctx, d, dir)
	if err != nil {
		return "", errors.Join(updateErr, err)
	}
	return source, nil
}

// aptFailed reports whether err is that apt is missing or could not do its work,
// for a reason that another kernel would get around.
func aptFailed(err error) bool {
	_, failed := errors.AsType[*commandError](err)
	return (failed || errors.Is(err, exec.ErrNotFound)) && !errors.Is(err, syscall.ENOSPC)
}

// apt calls apt's programs.
type apt struct {
	state string // a folder for lists of its own; empty means the host's lists
}

// command is one of apt's programs with the options that every call needs.
func (a apt) command(dir, program string, args ...string) command {
	argv := []string{program, "-q", "-o", "Acquire::Retries=2", "-o", "Acquire::http::Timeout=20", "-o", "Acquire::https::Timeout=20"}
	if os.Geteuid() == 0 {
		// The user that apt would otherwise download as may not be able to
		// write to the cache.
		argv = append(argv, "-o", "APT::Sandbox::User=root")
	}
	if a.state != "" {
		argv = append(argv, "-o", "Dir::State::Lists="+filepath.Join(a.state, "lists"), "-o", "Dir::Cache="+filepath.Join(a.state, "cache"))
	}
	return command{dir: dir, env: append(os.Environ(), "LC_ALL=C"), argv: append(argv, args...)}
}

func (a apt) update(ctx context.Context) error {
	for _, dir := range []string{"lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(a.state, dir), 0o755); err != nil {
			return err
		}
	}
	_, err := a.command("", "apt-get", "update", "--error-on=any").run(ctx)
	return err
}

// download downloads the packages of d that hold the kernel to dir and says
// which one it is.
func (a apt) download(ctx context.Context, d distribution, dir string) (source string, err error) {
	var packages []string
	for next := []string{d.meta}; len(next) > 0; next = next[1:] {
		out, err := a.command("", "apt-cache", "show", "--no-all-versions", next[0]).run(ctx)
		if err != nil {
			return "", err
		}
		version, depends, err := parsePackage(out)
		if err != nil {
			return "", fmt.Errorf("read what apt-cache says of %s: %w", next[0], err)
		}
		if next[0] != d.meta {
			packages = append(packages, next[0]+"="+version)
			if source == "" {
				source = fmt.Sprintf("%s package %s %s", d.id, next[0], version)
			}
		}
		for _, p := range depends {
			if d.wanted.MatchString(p) {
				next = append(next, p)
			}
		}
	}
	if len(packages) == 0 {
		return "", fmt.Errorf("%w: package %s depends on no kernel", errNoKernelPackage, d.meta)
	}
	_, err = a.command(dir, "apt-get", append([]string{"download"}, packages...)...).run(ctx)
	return source, err
}

// parsePackage reads the version and the names of the dependencies from the first
// paragraph of a package's control file.
func parsePackage(control string) (version string, depends []string, err error) {
	lines := bufio.NewScanner(strings.NewReader(control))
	// A kernel's list of what it provides is a long line.
	lines.Buffer(nil, 16<<20)
	for lines.Scan() && lines.Text() != "" {
		name, value, _ := strings.Cut(lines.Text(), ":")
		switch name {
		case "Version":
			version = strings.TrimSpace(value)
		case "Depends", "Pre-Depends":
			for d := range strings.FieldsFuncSeq(value, func(r rune) bool { return r == ',' || r == '|' }) {
				if words := strings.Fields(d); len(words) > 0 {
					depends = append(depends, words[0])
				}
			}
		}
	}
	if err := lines.Err(); err != nil {
		return "", nil, err
	}
	if version == "" {
		return "", nil, errors.New("it gives no version")
	}
	return version, depends, nil
}

// unpackPackages unpacks the packages of an entry into root, without installing
// anything.
func unpackPackages(ctx context.Context, packages entry, root string) error {
	for _, f := range packages.Files {
		unpack := command{argv: []string{"dpkg-deb", "-x", packages.file(f.Name), root}}
		if _, err := unpack.run(ctx); err != nil {
			return err
		}
	}
	return nil
}

// packagedKernel finds the kernel in unpacked packages.
func packagedKernel(root, source string) (kernelTree, error) {
	found, err := filepath.Glob(filepath.Join(root, "boot/vmlinuz-*"))
	if err != nil {
		return kernelTree{}, err
	}
	if len(found) != 1 {
		return kernelTree{}, fmt.Errorf("%s holds %d kernels in /boot, not one", source, len(found))
	}
	return kernelTree{image: found[0], modules: root, source: source}, nil
}
